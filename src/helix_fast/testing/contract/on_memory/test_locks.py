"""The contract of locks on the stores in memory."""

from __future__ import annotations

from helix_fast.testing.contract.locks import *
