"""What stream tests write and read; the contract suite's own."""

from __future__ import annotations

from helix_fast.testing.contract.numbered import number, number_of, numbers, rest, sequences, take

__all__ = ["number", "number_of", "numbers", "rest", "sequences", "take"]
