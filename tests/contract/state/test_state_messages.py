"""The conversation: appended, paged, truncated, saved whole; and references to sub-agents."""

from __future__ import annotations

from helix_fast.testing.contract.state.messages import *
