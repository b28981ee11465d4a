"""What the doctor finds: each finding made on purpose, told with what to do, and gone once that was done."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import socket
import ssl
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from support.gateway import Gateway
from support.settings import write_settings
from support.stores import SHARED, url_of

from idsync import config
from idsync.app import gateway_of
from idsync.clock import ManualClock, SystemClock
from idsync.config import Config
from idsync.doctor import files, gateway, outside, store, waiting
from idsync.doctor.check import DAY, Check
from idsync.errors import ConfigError
from idsync.model import FENCE_FLAG
from idsync.sandbox.server import Options, Sandbox
from idsync.store import journal, ledger, tokens
from idsync.store.db import Db, Store
from idsync.store.opening import store_of

NOW = 1_800_000_000.0


@pytest.fixture(scope="module")
def _sandbox() -> Iterator[Sandbox]:
    with Sandbox(Options()) as running:
        yield running


@pytest.fixture
def there(_sandbox: Sandbox) -> Gateway:
    client = Gateway(_sandbox)
    client.hook("reset")
    return client


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Store]:
    running = store_of(url_of(tmp_path / "idsync.db"))
    running.open()
    yield running
    running.close()


def settings(tmp_path: Path, url: str = "http://127.0.0.1:9", **changed: Any) -> Config:
    return config.load(str(write_settings(tmp_path, url, **changed)), {}).config


A_FILE = pytest.mark.skipif(SHARED, reason="of a database nothing is a file here: tests/cli/test_cli_shared.py")


def told(checks: list[Check], severity: str) -> list[str]:
    return [f"{check.says} -> {check.remedy}" for check in checks if check.severity == severity]


# -- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "mode", "severity", "says"),
    [
        ("config.toml", 0o666, "wrong", "anybody may write"),
        ("config.toml", 0o660, "wrong", "a group may write"),
        ("admin.key", 0o644, "warning", "routero.admin_key_file: anybody may read"),
        ("source.token", 0o620, "wrong", "scim.sources.okta.token_file: a group may write"),
        pytest.param("idsync.db", 0o640, "warning", "the store: a group may read", marks=A_FILE),
        pytest.param("idsync.db.lock", 0o606, "wrong", "the store: anybody may write", marks=A_FILE),
    ],
)
def test_a_mode_that_is_too_wide_is_told_with_the_chmod(
    tmp_path: Path, made: Store, name: str, mode: int, severity: str, says: str
) -> None:
    known, file = settings(tmp_path), tmp_path / name
    assert told(files.files(known, tmp_path / "config.toml"), "ok")
    file.chmod(mode)
    [found] = told(files.files(known, tmp_path / "config.toml"), severity)
    assert says in found
    chmod, wanted, path = found.split(" -> ")[1].split()
    assert (chmod, path) == ("chmod", str(file))
    file.chmod(int(wanted, 8))
    assert told(files.files(known, tmp_path / "config.toml"), "ok"), "the chmod that was told is enough"


def test_a_folder_in_which_others_may_exchange_a_secret_is_wrong(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    known = settings(folder, store={"url": url_of(tmp_path / "idsync.db")})
    folder.chmod(0o777)
    wrong = told(files.files(known, None), "wrong")
    assert len(wrong) == 2
    assert f"chmod o-w {folder}" in wrong[0]
    folder.chmod(0o1777)
    assert told(files.files(known, None), "wrong") == []


def test_what_a_platform_puts_in_place_is_its_own_affair(tmp_path: Path) -> None:
    known = settings(tmp_path)
    (tmp_path / "admin.key").chmod(0o444)
    assert [path for path, _ in config.readable_secrets(known, {})] == ["routero.admin_key_file"]
    assert config.readable_secrets(known, {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == []


def test_a_secret_that_anybody_may_write_keeps_the_daemon_from_starting(tmp_path: Path) -> None:
    known = settings(tmp_path)
    assert config.start_problems(known) == []
    (tmp_path / "source.token").chmod(0o602)
    [(path, what)] = config.start_problems(known)
    assert path == "scim.sources.okta.token_file"
    assert f"chmod o-w {tmp_path / 'source.token'}" in what


@pytest.mark.parametrize("form", ["$CREDENTIALS_DIRECTORY/key", "${CREDENTIALS_DIRECTORY}/key"])
def test_systemds_folder_of_credentials_may_stand_in_the_file(tmp_path: Path, form: str) -> None:
    file = write_settings(tmp_path, "http://127.0.0.1:9", routero={"admin_key_file": form})
    found = config.load(str(file), {"CREDENTIALS_DIRECTORY": "/run/credentials/idsync"}).config
    assert found.routero.admin_key_file == "/run/credentials/idsync/key"
    with pytest.raises(ConfigError) as refused:
        config.load(str(file), {})
    assert refused.value.problems[0][0] == "routero.admin_key_file"
    assert "LoadCredential" in refused.value.problems[0][1]


# -- the store ------------------------------------------------------------------------------------------------------


@A_FILE
@pytest.mark.parametrize(
    ("sql", "severity", "says"),
    [
        ("UPDATE _sqlite_migrations SET name = '9999_later' WHERE name = '0001_initial'", "wrong", "9999_later"),
        ("DELETE FROM _sqlite_migrations WHERE name = '0001_initial'", "warning", "idsync db backup"),
    ],
    ids=["newer", "older"],
)
def test_a_schema_of_another_release_is_told(tmp_path: Path, made: Store, sql: str, severity: str, says: str) -> None:
    url = url_of(tmp_path / "idsync.db")
    names = {check.name for check in store.store(url) if check.ok}
    assert names == {"sqlite", "store", "schema", "disk"}
    made.write(lambda db: db.execute(sql))
    [found] = told(store.store(url), severity)
    assert says in found


# -- the gateway ----------------------------------------------------------------------------------------------------


def asked(known: Config, made: Store | None = None) -> list[Check]:
    async def run() -> list[Check]:
        async with gateway_of(known, SystemClock()) as client:
            return await gateway.gateway(known, client, made.reader() if made else None, SystemClock().now())

    return asyncio.run(run())


def test_an_admin_key_that_sees_too_little_is_wrong(tmp_path: Path, there: Gateway) -> None:
    holder = there.account("ada", None)
    assert told(asked(settings(tmp_path, there.url)), "wrong") == []
    wrong = told(asked(settings(tmp_path, there.url, admin_key=holder.keys[0].raw)), "wrong")
    assert len(wrong) == 1
    assert "proxy admin" in wrong[0]
    assert holder.keys[0].raw not in str(wrong)


def test_an_admin_key_that_expires_or_belongs_to_a_team_is_told(tmp_path: Path, there: Gateway) -> None:
    there.team("ops")
    there.hook("seed", {"users": [{"user_id": "u-root", "user_email": "root@example.com", "user_role": "proxy_admin"}]})
    mine = there.key_of("u-root", "ops", duration="3d")
    info = there.get("/key/info", {"key": mine.id}).body
    there.fault(path="/key/info", status=200, content_type="application/json", body=json.dumps(info))
    warned = told(asked(settings(tmp_path, there.url)), "warning")
    assert [any(word in one for one in warned) for word in ("belongs to team ops", "expires in")] == [True, True]


SIGNS: dict[str, Callable[[Gateway], Any]] = {
    "1 of 1 users with": lambda there: there.account("ada", metadata={FENCE_FLAG: False}),
    "1 of 1 users with the": lambda there: there.account("ada", metadata={"scim_metadata": {"givenName": "Ada"}}),
    "1 of 1 keys": lambda there: there.key_of(None, metadata={"scim_blocked": True}),
    "1 of 1 teams": lambda there: there.team("data", metadata={"scim_data": {"displayName": "Data"}}),
}


@pytest.mark.parametrize("sign", SIGNS)
def test_the_signs_of_another_sync_are_told(tmp_path: Path, there: Gateway, sign: str) -> None:
    known = settings(tmp_path, there.url)
    assert any(check.name == "other syncs" and check.ok for check in asked(known))
    SIGNS[sign](there)
    [found] = told(asked(known), "warning")
    assert sign in found
    assert "take the gateway's own SCIM application off" in found


def came_back(db: Db, *, at: float) -> None:
    journal.append(db, at=at, actor="engine", action="departure.reasserted", subject="ada", detail={})


def test_what_keeps_coming_back_is_told(tmp_path: Path, there: Gateway, made: Store) -> None:
    known, now = settings(tmp_path, there.url), SystemClock().now()
    for at in (now - 8 * DAY, now - 2 * DAY, now - DAY, now):
        assert told(asked(known, made), "warning") == []
        made.write(partial(came_back, at=at))
    [found] = told(asked(known, made), "warning")
    assert found.startswith("3 times in 7 days")


# -- certificates and clocks ------------------------------------------------------------------------------------------


def certificate(folder: Path, days: float) -> tuple[Path, Path]:
    """Make a certificate for loopback that ends in so many days, and its key."""
    now, name = dt.datetime.now(dt.UTC), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    key = ec.generate_private_key(ec.SECP256R1())
    alternative = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    begins, ends = now - dt.timedelta(days=90), now + dt.timedelta(days=days)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), begins, ends)
    made = builder.add_extension(alternative, False).add_extension(x509.BasicConstraints(True, None), True)
    signed = made.sign(key, hashes.SHA256())
    (folder / "tls.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "tls.key").write_bytes(key.private_bytes(*plain))
    return folder / "tls.pem", folder / "tls.key"


async def served(folder: Path, answer: bytes, days: float, look: Callable[[str], Any]) -> Any:
    """Let something look at a TLS server on loopback that answers every request with the same bytes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate(folder, days))

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(reply, "localhost", 0, ssl=context, family=socket.AF_INET)
    async with server:
        return await look(f"https://localhost:{server.sockets[0].getsockname()[1]}")


DATED = b"HTTP/1.1 200 OK\r\nDate: Fri, 15 Jan 2027 08:00:00 GMT\r\nContent-Length: 0\r\n\r\n"  # NOW


@pytest.mark.parametrize(
    ("days", "off", "severity", "says"),
    [
        (60, 0.0, "ok", "its clock and ours agree"),
        (60, 20.0, "warning", "its clock is 20 s behind ours"),
        (60, -300.0, "wrong", "its clock is 300 s ahead of ours"),
        (5, 0.0, "warning", "the certificate expires in"),
        (-1, 0.0, "wrong", "its certificate is not trusted: certificate has expired"),
    ],
)
def test_certificates_and_clocks_are_judged(tmp_path: Path, days: float, off: float, severity: str, says: str) -> None:
    clock = ManualClock(NOW + 0.5 + off)

    async def look(url: str) -> list[Check]:
        known = settings(tmp_path, url, http={"ca_file": str(tmp_path / "tls.pem")})
        seen = await outside.look(url, known.http.ca_file, clock)
        return list(outside._judged(url, seen, known, SystemClock().now()))

    checks = asyncio.run(served(tmp_path, DATED, days, look))
    assert says in str(told(checks, severity))
    assert all(" -> " in one and one.split(" -> ")[1] for one in told(checks, "wrong") + told(checks, "warning"))


@pytest.mark.parametrize("answer", [b"", b"220 hello\r\n", b"x" * 200_000, b"HTTP/1.1 200 OK\r\nDate: soon\r\n\r\n"])
def test_an_address_that_speaks_something_else_is_no_crash(tmp_path: Path, answer: bytes) -> None:
    async def look(url: str) -> outside.Look:
        return await outside.look(url, str(tmp_path / "tls.pem"), SystemClock())

    assert asyncio.run(served(tmp_path, answer, 60, look)).ahead is None


@pytest.mark.parametrize(("days", "severity"), [(60, "ok"), (5, "warning"), (-1, "wrong")])
def test_a_certificate_in_a_file_is_judged(tmp_path: Path, days: float, severity: str) -> None:
    file, _ = certificate(tmp_path, days)
    known = settings(tmp_path, http={"ca_file": str(file)})
    [check] = outside._files(known, SystemClock().now())
    assert (check.severity, check.name) == (severity, "certificate")


# -- what waits -----------------------------------------------------------------------------------------------------


def token(made: Store, id: str, age: float, used: float | None = None, kind: str = "source") -> None:
    at = NOW - age * DAY
    name = "okta" if kind == "source" else "ada"
    row: dict[str, Any] = {"id": id, "kind": kind, "name": name, "scope": "scim", "digest": id, "at": at}
    made.write(lambda db: tokens.put_token(db, **row))
    if used is not None:
        made.write(lambda db: tokens.touch_token(db, id, NOW - used * DAY))


LIVE: dict[str, tuple[list[tuple[str, float, float | None]], list[str]]] = {
    "in use": ([("a", 30, 0.1)], []),
    "just exchanged": ([("a", 30, 0.1), ("b", 1, None)], []),
    "two for too long": ([("a", 30, 20), ("b", 20, 0.1)], ["token a lives beside a newer one for 20 days"]),
    "unused": ([("a", 200, 100)], ["token a has rested for 100 days; last used 100 days ago -> idsync token revoke a"]),
    "never used": ([("a", 200, None)], ["token a has rested for 200 days; never used"]),
    "old": ([("a", 400, 0.1)], ["token a is 400 days old", "idsync token new okta"]),
    "none": ([], ["source okta has no live token: its pushes are answered 401 -> idsync token new okta"]),
}


@pytest.mark.parametrize("case", LIVE)
def test_tokens_are_judged_by_age_use_and_number(tmp_path: Path, made: Store, case: str) -> None:
    live, says = LIVE[case]
    for id, age, used in live:
        token(made, id, age, used)
    known = settings(tmp_path, scim={"sources": [{"name": "okta"}]})
    warned = told(waiting.waiting(made.reader(), known, NOW), "warning")
    assert len(warned) == bool(says)
    assert all(one in warned[0] for one in says)


ENDS = {"past@example.com": -2.0, "soon@example.com": 5.0, "later@example.com": 300.0}
"""In days from now."""


def test_protections_that_end_and_holds_nobody_decides_are_told(tmp_path: Path, made: Store) -> None:
    days = {name: str(dt.datetime.fromtimestamp(NOW + off * DAY, dt.UTC).date()) for name, off in ENDS.items()}
    known = settings(
        tmp_path, protected=[{"match": name, "reason": "break-glass", "expires": day} for name, day in days.items()]
    )
    made.write(lambda db: ledger.join_hold(db, "configuration", "a group is gone", NOW - 8 * DAY))
    made.write(lambda db: ledger.join_hold(db, "push:okta", "many leave", NOW - 1 * DAY))
    warned = told(waiting.waiting(made.reader(), known, NOW), "warning")
    for name, says in (("past@example.com", "shields nobody any more"), ("soon@example.com", "ends on")):
        assert [says in one for one in warned if one.startswith(name)] == [True]
    assert not any(one.startswith("later@example.com") for one in warned)
    assert ["a group is gone" in one for one in warned if "idsync holds show" in one] == [True]
