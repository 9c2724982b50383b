"""What acquire, refresh and release promise: run unchanged on the server and in memory."""

from __future__ import annotations

from helix_fast.testing.contract.locks.acquiring import *
