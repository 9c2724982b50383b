"""Data comes back as it went in."""

from __future__ import annotations

from helix_fast.testing.contract.state.values import *
