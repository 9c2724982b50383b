"""What becomes of a stream: ended, failed, paused, stopped, reset, deleted; seen from this process and another one."""

from __future__ import annotations

from helix_fast.testing.contract.streams.lifecycle import *
