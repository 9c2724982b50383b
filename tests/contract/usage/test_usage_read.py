"""Reading usage: entries by filters, counts, deletion, and the index of sessions."""

from __future__ import annotations

from helix_fast.testing.contract.usage.reading import *
