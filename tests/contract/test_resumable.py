"""StreamStorage: chunks by the sequences that the caller gives them."""

from __future__ import annotations

from helix_fast.testing.contract.resumable.appending import *
