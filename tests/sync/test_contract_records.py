"""What every state and usage store does, through the blocking classes; with --thorough, as all calls are made alike."""

from __future__ import annotations

from helix_fast.testing.contract.state import *
from helix_fast.testing.contract.usage import *
