"""The contract of resumable on the stores in memory."""

from __future__ import annotations

from helix_fast.testing.contract.resumable import *
