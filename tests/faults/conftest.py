"""What several tests of faults need."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.cluster import ClusterProcess


@pytest.fixture
async def cluster(short_path: Path) -> AsyncIterator[ClusterProcess]:
    """Three primaries."""
    process = ClusterProcess(short_path)
    try:
        await process.start()
        yield process
    finally:
        await process.stop()
