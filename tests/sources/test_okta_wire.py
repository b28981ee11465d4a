"""One request to Okta: what goes out, what comes in, and what is refused before or after. On a server of our own."""

from __future__ import annotations

import asyncio
import gzip
import os
import shutil
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from idsync.clock import ManualClock
from idsync.errors import IncompleteSource, SourceUnreachable
from idsync.sources.okta.auth import ApiToken
from idsync.sources.okta.http import Wire
from idsync.sources.pager import Answer

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
LIMIT = 1000


async def fetched(handler: Handler, *, tls: ssl.SSLContext | None = None, path: str = "", **settings: Any) -> Answer:
    """Serve every request with the handler and get one answer of it."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    base = f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}/okta"
    clock = ManualClock()

    async def sleep(seconds: float) -> None:
        clock.advance(seconds)

    usual = {"timeout": 5.0, "share": 0.5, "concurrency": 1, "patience": 60.0, "most_bytes": LIMIT}
    wire = Wire("okta-poll", base, clock, sleep=sleep, **(usual | settings))
    try:
        return await wire.get(path or f"{base}/api/v1/users", "users", ApiToken(lambda: "00token", "okta-poll"))
    finally:
        await wire.close()
        await runner.cleanup()


def answering(body: bytes, **headers: str) -> Handler:
    async def handler(_request: web.Request) -> web.Response:
        return web.Response(body=body, headers=headers)

    return handler


def test_what_goes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[web.Request] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request)
        return web.Response(body=b"[]", headers={"Set-Cookie": "sid=1"})

    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert asyncio.run(fetched(handler)).body == b"[]"
    sent = seen[0].headers
    assert (sent["Authorization"], sent["User-Agent"], sent["Accept"]) == ("SSWS 00token", "idsync", "application/json")
    assert "Cookie" not in sent


@pytest.mark.parametrize(
    "body",
    [b"x" * (LIMIT + 1), b"x" * 10_000_000],
)
@pytest.mark.parametrize("packed", [False, True])
def test_an_answer_is_read_up_to_a_limit(body: bytes, packed: bool) -> None:
    handler = answering(gzip.compress(body), **{"Content-Encoding": "gzip"}) if packed else answering(body)
    with pytest.raises(IncompleteSource, match="more than 1000 bytes"):
        asyncio.run(fetched(handler))


def test_an_answer_without_end_is_cut_short() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        while True:
            await answer.write(b"x" * LIMIT)

    with pytest.raises(IncompleteSource, match="more than 1000 bytes"):
        asyncio.run(fetched(handler, timeout=2.0))


def test_an_answer_at_the_limit_is_whole() -> None:
    assert len(asyncio.run(fetched(answering(b"x" * LIMIT))).body) == LIMIT


@pytest.mark.parametrize(
    "path",
    [
        "http://127.0.0.1:9/okta/api",
        "https://elsewhere.example.com/okta/api",
        "http://[::1",
        "/okta",
        "http://u@127.0.0.1/okta",
    ],
)
def test_no_credential_goes_elsewhere(path: str) -> None:
    with pytest.raises(IncompleteSource, match="another address"):
        asyncio.run(fetched(answering(b"[]"), path=path))


def test_two_headers_of_a_name_are_one() -> None:
    async def handler(_request: web.Request) -> web.Response:
        answer = web.Response(body=b"[]")
        answer.headers.extend([("Link", '<a>; rel="self"'), ("Link", '<b>; rel="next"')])
        return answer

    assert asyncio.run(fetched(handler)).headers["link"] == '<a>; rel="self", <b>; rel="next"'


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl")
def test_only_a_trusted_certificate_is_talked_to(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=okta"
    command += f" -addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}"
    subprocess.run(command.split(), check=True, capture_output=True, env={"PATH": os.environ["PATH"]})
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    assert asyncio.run(fetched(answering(b"[]"), tls=tls, ca_file=str(certificate))).status == 200
    with pytest.raises(SourceUnreachable, match="certificate is not trusted"):
        asyncio.run(fetched(answering(b"[]"), tls=tls))
