"""subscribe(): every chunk to a callback, in order, one at a time, whatever the callback does."""

from __future__ import annotations

from helix_fast.testing.contract.resumable.subscribing import *
