"""By e-mail, over smtplib in a thread: TLS always, but to this machine."""

from __future__ import annotations

import asyncio
import contextlib
import smtplib
import ssl
import threading
from collections.abc import Callable
from email.message import EmailMessage
from email.utils import formatdate
from functools import partial

import structlog

from idsync.config import Notify, read_secret
from idsync.errors import NotDelivered
from idsync.notify.message import Message, lines, title
from idsync.outbound import trust

log = structlog.get_logger(__name__)


async def mail(entry: Notify, message: Message, *, ca_file: str, now: float) -> None:
    """Send a message to all who are named; done means the server has taken it for at least one of them.

    Raises:
        NotDelivered: it was not taken.
        ConfigError: the password cannot be read.
    """
    password = read_secret(entry.password_file) if entry.password_file else ""
    letter = _letter(entry, message, now)
    found = trust(ca_file)
    context = found if isinstance(found, ssl.SSLContext) else ssl.create_default_context()
    try:
        await _in_a_thread(partial(_send, entry, letter, password, context))
    except (smtplib.SMTPException, OSError, ValueError) as error:
        raise NotDelivered(_why(entry, error)) from None


async def _in_a_thread(work: Callable[[], None]) -> None:
    """Run in a thread that nobody waits for when the daemon ends."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def end(error: BaseException | None) -> None:
        if not done.done():
            done.set_result(None) if error is None else done.set_exception(error)

    def run() -> None:
        failed: BaseException | None = None
        try:
            work()
        except BaseException as error:
            failed = error
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(end, failed)

    threading.Thread(target=run, name="idsync-mail", daemon=True).start()
    await done


def _letter(entry: Notify, message: Message, now: float) -> EmailMessage:
    letter = EmailMessage()
    letter["Subject"] = title(message)
    letter["From"] = entry.sender
    letter["To"] = ", ".join(entry.to)
    letter["Date"] = formatdate(now)
    letter["Message-ID"] = f"<{message.id}@{entry.sender.rpartition('@')[2]}>"
    letter["Auto-Submitted"] = "auto-generated"
    letter.set_content("\n\n".join(lines(message)) + "\n")
    return letter


def _send(entry: Notify, letter: EmailMessage, password: str, context: ssl.SSLContext) -> None:
    server: smtplib.SMTP
    if entry.tls == "tls":
        server = smtplib.SMTP_SSL(entry.host, entry.port, timeout=entry.timeout, context=context)
    else:
        server = smtplib.SMTP(entry.host, entry.port, timeout=entry.timeout)
    with contextlib.closing(server):
        if entry.tls == "starttls":
            server.starttls(context=context)
        if entry.user:
            server.login(entry.user, password)
        refused = server.send_message(letter)
        with contextlib.suppress(smtplib.SMTPException, OSError):
            server.quit()
    if refused:  # the others have it, and would get it again if this counted as a failure
        log.warning("notify.recipients_refused", receiver=entry.name, refused=len(refused), of=len(entry.to))


def _why(entry: Notify, error: Exception) -> str:
    """Say what went wrong without the server's words, which may quote what was sent."""
    whom = f"the mail server {entry.host}:{entry.port}"
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return f"{whom} offers no STARTTLS or no log-in; mail is not sent in clear"
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return f"{whom} refuses the user or the password"
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return f"{whom} refuses {len(error.recipients)} of {len(entry.to)} recipients"
    if isinstance(error, smtplib.SMTPResponseException):
        return f"{whom} answered {error.smtp_code}"
    if isinstance(error, ssl.SSLError):
        return f"{whom} has a certificate that is not trusted (http.ca_file adds an authority), or speaks no TLS"
    if isinstance(error, TimeoutError):
        return f"no answer from {whom} in time"
    if isinstance(error, smtplib.SMTPException):
        return f"{whom} broke off"
    return f"no connection to {whom}"
