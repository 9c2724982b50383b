"""What every lock manager does, on each backend."""

from __future__ import annotations

from helix_fast.testing.contract.locks import *
