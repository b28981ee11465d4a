"""Who wants to know about every call: the receipt of one departure.

calls: list[Call] = []
token = recorder.set(calls)
...                          # every call made here, also by tasks started here, is appended
recorder.reset(token)
"""

from __future__ import annotations

from contextvars import ContextVar

from idsync.model import Call

recorder: ContextVar[list[Call] | None] = ContextVar("idsync_gateway_recorder", default=None)
"""The list that calls are appended to; None: nobody asks. Tasks inherit it, and share the one list."""


def record(call: Call) -> None:
    """Append a call to the receipt that is being written here, if there is one."""
    calls = recorder.get()
    if calls is not None:
        calls.append(call)
