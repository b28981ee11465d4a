"""What a receiver is sent: one message for everything that is still to be told, in the form of its kind."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from idsync import __version__
from idsync.clock import rfc3339
from idsync.model import Event
from idsync.store.notices import Notice

MOST = {"slack": 20, "email": 100, "webhook": 100}
"""Notices that are written out in one message; how many more there are is said."""
MARKS = {"new": "NEW", "again": "STILL", "over": "OVER", None: "STILL"}


@dataclass(frozen=True)
class Message:
    """`id` is the same whenever the same is sent. `about` says which idsync, `left_out` how many notices it does not list."""

    id: str
    about: str
    notices: tuple[Notice, ...]
    left_out: int = 0
    test: bool = False


def message_of(receiver: str, kind: str, pending: Sequence[Notice], about: str) -> Message:
    """Return one message for all that is pending, the most urgent first."""
    order = [event.value for event in Event]
    first = sorted(pending, key=lambda one: (order.index(one.event), one.since, one.subject))
    said = [[one.event, one.subject, one.pending, one.since, one.told_at] for one in first]
    made = hashlib.sha256(json.dumps([receiver, said]).encode()).hexdigest()[:32]
    return Message(f"msg_{made}", about, tuple(first[: MOST[kind]]), max(0, len(first) - MOST[kind]))


def test_message(receiver: str, about: str, now: float) -> Message:
    """Return a message that says it is a test."""
    made = hashlib.sha256(f"test {receiver} {now!r}".encode()).hexdigest()[:32]
    return Message(f"msg_{made}", about, (), test=True)


def title(message: Message) -> str:
    """Say in one line what a message is about."""
    if message.test:
        return "idsync: a test, nothing has happened"
    count = len(message.notices) + message.left_out
    if count == 1:
        one = message.notices[0]
        return f"idsync: {MARKS[one.pending]} {one.event.replace('_', ' ')}"
    return f"idsync: {count} notices, first {message.notices[0].event.replace('_', ' ')}"


def lines(message: Message) -> list[str]:
    """Write a message for people, a paragraph a notice."""
    said = ["This is a test: notifications of idsync arrive here."] if message.test else []
    for one in message.notices:
        ended = f", over at {rfc3339(one.ended_at)}" if one.ended_at is not None else ""
        said.append(f"{MARKS[one.pending]} {one.event}: {one.summary}\n  since {rfc3339(one.since)}{ended}")
        if one.pending != "over":
            said[-1] += f"\n  -> {one.remedy}"
    if message.left_out:
        said.append(f"and {message.left_out} more: idsync status")
    return [*said, f"from idsync at {message.about}"]


def slack(message: Message) -> dict[str, Any]:
    """Return the body for an incoming webhook (docs.slack.dev/messaging/sending-messages-using-incoming-webhooks).

    `&`, `<` and `>` are written as Slack wants them, so that no name becomes a link or calls a channel.
    """
    text = "\n".join([title(message), *lines(message)])
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return {"text": text, "mrkdwn": False, "unfurl_links": False, "unfurl_media": False}


def webhook(message: Message, now: float) -> dict[str, Any]:
    """Return the body of a generic webhook; docs/notifications.md describes it."""
    return {
        "type": "idsync.test" if message.test else "idsync.notices",
        "timestamp": rfc3339(now),
        "idsync": {"version": __version__, "url": message.about},
        "notices": [_view(one) for one in message.notices],
        "left_out": message.left_out,
    }


def _view(one: Notice) -> dict[str, Any]:
    return {
        "event": one.event,
        "subject": one.subject,
        "state": one.pending,
        "summary": one.summary,
        "remedy": one.remedy,
        "since": rfc3339(one.since),
        "over_at": None if one.ended_at is None else rfc3339(one.ended_at),
    }
