"""One message to one receiver, in whatever way it is told."""

from __future__ import annotations

from aiohttp.abc import AbstractResolver

from idsync.config import Notify, read_secret
from idsync.config.notifying import url_problems
from idsync.config.tables import LOOPBACK
from idsync.errors import NotDelivered
from idsync.notify import posting
from idsync.notify.mailing import mail
from idsync.notify.message import Message, slack, webhook


async def send(
    entry: Notify, message: Message, *, ca_file: str, now: float, resolver: AbstractResolver | None = None
) -> None:
    """Deliver a message. Secrets are read anew each time, so that one can be exchanged without a restart.

    Raises:
        NotDelivered: it was not taken.
        ConfigError: a secret cannot be read.
    """
    if entry.kind == "email":
        await mail(entry, message, ca_file=ca_file, now=now)
        return
    headers: dict[str, str] = {}
    if entry.kind == "slack":
        url, body = read_secret(entry.url_file), posting.encoded(slack(message))
        if url_problems(url, LOOPBACK, private=entry.allow_private):
            msg = f"what stands in {entry.url_file} is no https address"
            raise NotDelivered(msg)
    else:
        url, body = entry.url, posting.encoded(webhook(message, now))
        headers = posting.signed(message.id, body, read_secret(entry.secret_file).split(), now)
    way = posting.Way(entry.timeout, entry.allow_private, ca_file, resolver)
    await posting.post(url, body, headers, way, whom=f"the {entry.kind} of {entry.name}")
