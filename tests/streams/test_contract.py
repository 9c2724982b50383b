"""What every stream store does, on each backend: the contract's streams and resumable storage."""

from __future__ import annotations

from helix_fast.testing.contract.resumable import *
from helix_fast.testing.contract.streams import *
