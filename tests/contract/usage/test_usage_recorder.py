"""The recorder: entries taken without waiting, each written once, none lost in silence."""

from __future__ import annotations

from helix_fast.testing.contract.usage.recorder import *
