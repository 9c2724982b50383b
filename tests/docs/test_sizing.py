"""What things cost in the server's memory is what docs/operations.md says."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from benchmarks import sizing
from helix_fast import connect
from helix_fast.embedded import BINARY_VARIABLE

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text("utf-8")


@pytest.mark.skipif(BINARY_VARIABLE in os.environ, reason="the figures are those of the packaged server")
async def test_things_cost_what_the_documentation_says(server_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizing, "CHUNKS", 1_024)
    async with connect(server_url, streams={"max_stream_length": None}) as helix:
        figures = await sizing.measure(helix)
    for name, size in figures.items():
        found = re.search(rf"^\| {re.escape(name)}(?::[^|]*)? \| ([\d ]+) \|$", PAGE, re.MULTILINE)
        assert found is not None, name
        # fewer elements than there differ by some bytes
        assert size == pytest.approx(int(found[1].replace(" ", "")), rel=0.2, abs=8), name
