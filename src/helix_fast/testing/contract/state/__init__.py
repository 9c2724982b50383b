"""Sessions: what every StateStore promises. Needs the fixture ``new_state_store``, and hypothesis."""

from __future__ import annotations

from helix_fast.testing.contract.state.bad_input import *
from helix_fast.testing.contract.state.checkpoints import *
from helix_fast.testing.contract.state.histories import *
from helix_fast.testing.contract.state.messages import *
from helix_fast.testing.contract.state.sessions import *
from helix_fast.testing.contract.state.staging import *
from helix_fast.testing.contract.state.values import *
