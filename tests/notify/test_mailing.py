"""By e-mail: never in clear but to this machine, and nothing of the server's words is repeated."""

from __future__ import annotations

import asyncio
import email
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from idsync.config import Notify
from idsync.errors import NotDelivered
from idsync.notify.mailing import mail
from idsync.notify.message import message_of
from idsync.store.notices import Notice

from .standins import Mailbox, certificate, mailbox

NOW = 1_800_000_000.0
NOTICE = Notice("mail", "conflict_opened", "c1", "two accounts match Ädä\\r\\nBcc: eve@example.com", "idsync link", NOW)
MESSAGE = message_of("mail", "email", [NOTICE], "https://idsync.example.com")
PASSWORD = "canary-of-the-mail-password"


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    return certificate(tmp_path_factory.mktemp("tls"), "127.0.0.1")


@pytest.fixture
def server(tls: tuple[Path, ssl.SSLContext]) -> Iterator[Mailbox]:
    with mailbox(tls[1]) as running:
        yield running


def entry_of(server: Mailbox, folder: Path, **changed: Any) -> Notify:
    (folder / "password").write_text(PASSWORD)
    given = {"host": "127.0.0.1", "port": server.port, "sender": "idsync@example.com", "timeout": 5.0}
    given |= {"to": ("ops@example.com", "sec@example.com"), "user": "idsync", "password_file": str(folder / "password")}
    return Notify(name="mail", kind="email", **{**given, **changed})


def test_a_letter_goes_over_tls_with_a_log_in(
    server: Mailbox, tls: tuple[Path, ssl.SSLContext], tmp_path: Path
) -> None:
    asyncio.run(mail(entry_of(server, tmp_path), MESSAGE, ca_file=str(tls[0]), now=NOW))
    ((to, text),) = server.letters
    assert [address.rpartition(":")[2] for address in to] == ["<ops@example.com>", "<sec@example.com>"]
    letter = email.message_from_bytes(text.encode())
    assert (letter["Subject"], letter["Auto-Submitted"]) == ("idsync: STILL conflict opened", "auto-generated")
    assert letter["Bcc"] is None
    body = letter.get_payload(decode=True)
    assert isinstance(body, bytes)
    assert "two accounts match Ädä" in body.decode()
    assert len(server.logins) == 1
    assert [line.split()[0] for line in server.said] == ["EHLO", "STARTTLS"], "nothing else was in clear"


@pytest.mark.parametrize(
    ("offers", "changed", "trusted", "said"),
    [
        (("AUTH PLAIN",), {}, True, "offers no STARTTLS"),
        (("STARTTLS",), {}, True, "no log-in"),
        (("STARTTLS", "AUTH PLAIN"), {}, False, "certificate that is not trusted"),
        (("STARTTLS",), {"tls": "tls", "user": ""}, True, "speaks no TLS"),
    ],
)
def test_nothing_is_sent_in_clear(
    server: Mailbox,
    tls: tuple[Path, ssl.SSLContext],
    tmp_path: Path,
    offers: tuple[str, ...],
    changed: dict[str, Any],
    trusted: bool,
    said: str,
) -> None:
    server.offers = offers
    entry = entry_of(server, tmp_path, **changed)
    with pytest.raises(NotDelivered, match=said) as failed:
        asyncio.run(mail(entry, MESSAGE, ca_file=str(tls[0]) if trusted else "", now=NOW))
    assert server.letters == []
    assert PASSWORD not in str(failed.value)
    assert not {line.split()[0] for line in server.said} & {"AUTH", "MAIL", "RCPT", "DATA"}


def test_on_this_machine_it_may_go_without_and_one_bad_address_keeps_nobody_from_it(
    server: Mailbox, tmp_path: Path
) -> None:
    server.refuses = "sec@example.com"
    plain = entry_of(server, tmp_path, tls="none", user="", password_file="")
    asyncio.run(mail(plain, MESSAGE, ca_file="", now=NOW))
    assert len(server.letters) == 1
    server.refuses = "example.com"
    with pytest.raises(NotDelivered, match="refuses 2 of 2 recipients"):
        asyncio.run(mail(plain, MESSAGE, ca_file="", now=NOW))
