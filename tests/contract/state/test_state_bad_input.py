"""What cannot be right is refused before a byte is sent, and changes nothing."""

from __future__ import annotations

from helix_fast.testing.contract.state.bad_input import *
