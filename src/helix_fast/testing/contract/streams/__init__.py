"""Streams: what every StreamManager promises, its writers and readers. Needs the fixture ``new_stream_manager``."""

from __future__ import annotations

import pytest

from .dying import *
from .fencing import *
from .finding import *
from .lifecycle import *
from .listening import *
from .opening import *
from .reading import *
from .stopping import *
from .trimming import *
from .writing import *

# Many tests drop their writers; those that are about it look themselves.
pytestmark: pytest.MarkDecorator = pytest.mark.filterwarnings("ignore:unclosed <StreamWriter:ResourceWarning")
