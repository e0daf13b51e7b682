"""Whether a model runs in the threads of this process or in processes of its own."""

from __future__ import annotations

from inference.model import Isolation
from inference.runtime.session import SessionProvider


def provider_for(isolation: Isolation, in_thread: SessionProvider) -> SessionProvider:
    """What loads a model of this isolation; `in_thread` for a model of the usual one."""
    if isolation == "thread":
        return in_thread
    # Only here, so that who has no such model does not pay for it.
    from inference.runtime.child_session import ChildSessionProvider

    return ChildSessionProvider()
