"""Chunks by sequence: what every ResumableStorage promises. Needs the fixture ``new_resumable_storage``."""

from __future__ import annotations

from .appending import *
from .keeping import *
from .subscribing import *
