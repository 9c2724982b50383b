"""Settings of frameworks that must hold before they are imported."""

from __future__ import annotations

import os

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # it would fetch prices at its import
os.environ.setdefault("OPENAI_AGENTS_DISABLE_TRACING", "1")
