"""Sessions: what every StateStore promises. Needs the fixture ``new_state_store``, and hypothesis."""

from __future__ import annotations

from .bad_input import *
from .checkpoints import *
from .histories import *
from .messages import *
from .naming import *
from .runs import *
from .sessions import *
from .staging import *
from .values import *
