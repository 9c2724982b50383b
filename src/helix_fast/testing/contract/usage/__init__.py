"""Usage: what every UsageStore promises, and its recorder. Needs the fixture ``new_usage_store``."""

from __future__ import annotations

from .reading import *
from .recorder import *
from .recording import *
from .rollups import *
