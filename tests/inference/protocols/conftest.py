"""Property tests run on shared cores, where an example may take any time."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("shared_cores", deadline=None)
settings.load_profile("shared_cores")
