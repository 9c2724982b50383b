"""Streams: what every StreamManager promises, its writers and readers. Needs the fixture ``new_stream_manager``."""

from __future__ import annotations

from helix_fast.testing.contract.streams.fencing import *
from helix_fast.testing.contract.streams.lifecycle import *
from helix_fast.testing.contract.streams.listening import *
from helix_fast.testing.contract.streams.reading import *
from helix_fast.testing.contract.streams.trimming import *
from helix_fast.testing.contract.streams.writing import *
