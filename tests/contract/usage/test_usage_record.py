"""Recording usage: each entry once, all of a call or none, wrong ones refused before anything is sent."""

from __future__ import annotations

from helix_fast.testing.contract.usage.recording import *
