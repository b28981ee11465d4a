"""Receivers that answer as told and remember what they were sent: over HTTP, over HTTPS, and a mail server."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import socketserver
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


@dataclass
class Hook:
    """`answer` is the status and the headers of the next answers; `bodies` and `heads` are what came."""

    port: int = 0
    answer: tuple[int, dict[str, str]] = (200, {})
    reply: bytes = b"ok"
    bodies: list[bytes] = field(default_factory=list)
    heads: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"


@contextlib.contextmanager
def hook(context: ssl.SSLContext | None = None) -> Iterator[Hook]:
    state = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            state.paths.append(self.path)
            state.heads.append({name.lower(): value for name, value in self.headers.items()})
            state.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            status, headers = state.answer
            self.send_response(status)
            for name, value in {"Content-Length": str(len(state.reply)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(state.reply)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    state.port = server.server_address[1]
    with _running(server):
        yield state


@dataclass
class Mailbox:
    """`offers` is what EHLO says; `letters` came whole, `said` is every line in clear before TLS."""

    port: int = 0
    offers: tuple[str, ...] = ("STARTTLS", "AUTH PLAIN LOGIN")
    refuses: str = ""
    letters: list[tuple[list[str], str]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)


@contextlib.contextmanager
def mailbox(context: ssl.SSLContext | None = None) -> Iterator[Mailbox]:
    """A mail server of a few verbs (RFC 5321, 3207, 4954)."""
    state = Mailbox()

    class Handler(socketserver.StreamRequestHandler):
        secure = False
        to: list[str]

        def say(self, text: str) -> None:
            self.wfile.write(f"{text}\r\n".encode())

        def finish(self) -> None:
            with contextlib.suppress(OSError):
                super().finish()
            self.connection.close()

        def handle(self) -> None:
            self.to = []
            self.say("220 mail.example.com")
            while line := self.rfile.readline().decode().rstrip("\r\n"):
                if not self.secure:
                    state.said.append(line.upper())
                if not self.do(line):
                    return

        def do(self, line: str) -> bool:
            verb, _, rest = line.partition(" ")
            verb = verb.upper()
            if verb == "EHLO":
                offers = [offer for offer in state.offers if not (self.secure and offer == "STARTTLS")]
                self.say("250-mail.example.com")
                for offer in offers:
                    self.say(f"250-{offer}")
                self.say("250 8BITMIME")
            elif verb == "STARTTLS" and context is not None:
                self.say("220 go on")
                self.connection = context.wrap_socket(self.connection, server_side=True)
                self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)
                self.secure = True
            elif verb == "AUTH":
                state.logins.append(rest)
                self.say("235 welcome")
            elif verb == "RCPT" and state.refuses and state.refuses in rest:
                self.say("550 nobody of that name")
            elif verb == "DATA":
                self.say("354 go on")
                lines = []
                while (text := self.rfile.readline().decode().rstrip("\r\n")) != ".":
                    lines.append(text)
                state.letters.append((self.to, "\n".join(lines)))
                self.say("250 taken")
            elif verb == "QUIT":
                self.say("221 bye")
                return False
            else:
                self.to += [rest] if verb == "RCPT" else []
                self.say("250 ok")
            return True

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.port = server.server_address[1]
    with _running(server):
        yield state


@contextlib.contextmanager
def _running(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def certificate(folder: Path, *names: str, days: int = 30) -> tuple[Path, ssl.SSLContext]:
    """Make a certificate that is its own authority, and what serves with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    called = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0])])
    made = (
        x509.CertificateBuilder(called, called, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=400))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    hidden = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file, both = folder / "authority.pem", folder / "server.pem"
    file.write_bytes(pem)
    both.write_bytes(pem + hidden)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(both)
    return file, context


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
