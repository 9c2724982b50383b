"""What every lock manager and stream store does, through the blocking classes."""

from __future__ import annotations

from helix_fast.testing.contract.locks import *
from helix_fast.testing.contract.resumable import *
from helix_fast.testing.contract.streams import *
