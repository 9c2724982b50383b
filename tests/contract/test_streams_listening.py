"""Listeners come and go; on every backend."""

from __future__ import annotations

from helix_fast.testing.contract.streams.listening import *
