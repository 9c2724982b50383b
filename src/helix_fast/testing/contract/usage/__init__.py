"""Usage: what every UsageStore promises, and its recorder. Needs the fixture ``new_usage_store``."""

from __future__ import annotations

from helix_fast.testing.contract.usage.reading import *
from helix_fast.testing.contract.usage.recorder import *
from helix_fast.testing.contract.usage.recording import *
from helix_fast.testing.contract.usage.rollups import *
