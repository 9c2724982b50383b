"""What an integration says where its extra is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needs(library: str, *, extra: str) -> Iterator[None]:
    """Around imports of a library: an ImportError says what to install. It names both causes, missing and too old."""
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f"this needs {library}, which is missing or too old ({error}): pip install 'helix-fast[{extra}]'",
            name=error.name,
            path=error.path,
        ) from error
