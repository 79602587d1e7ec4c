"""Property tests have no time limit: a busy machine is no fault."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("eosin", deadline=None)
settings.load_profile("eosin")
