"""Tokens: each credential as it goes over the wire, what an administrator is told, and what nobody may read."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import ipaddress
import json
import logging
import ssl
from pathlib import Path
from typing import Any

import jwt
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

from idsync.errors import ConfigError, IncompleteSource, SourceRefused, SourceUnreachable
from idsync.sources.graph.source import Certificate, ClientSecret, FederatedToken, GraphSettings, ManagedIdentity
from sources.entra import SECRET, TENANT, TOKEN, Entra, entra, page, refusal, reply
from sources.tenant import Tenant

SINCE, UNTIL = dt.datetime(2020, 1, 1, tzinfo=dt.UTC), dt.datetime(2090, 1, 1, tzinfo=dt.UTC)


def users(request: web.Request) -> web.Response:
    """Answer any request with one user, if a token came with it."""
    assert request.headers["Authorization"].startswith(f"Bearer {TOKEN}")
    return reply(page({"id": "u-1", "accountEnabled": True, "displayName": "One"}))


@pytest.fixture(scope="module")
def pems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one certificate for 127.0.0.1, in every form in which an administrator may have it."""
    folder = tmp_path_factory.mktemp("pems")
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "idsync.example.com")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(SINCE)
        .not_valid_after(UNTIL)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    plain = key.private_bytes(pem, form, serialization.NoEncryption())
    locked = key.private_bytes(pem, form, serialization.BestAvailableEncryption(b"letmein"))
    public = made.public_bytes(pem)
    pfx = pkcs12.serialize_key_and_certificates(
        b"x", key, made, None, serialization.BestAvailableEncryption(b"letmein")
    )
    other = x509.CertificateBuilder(name, name, rsa.generate_private_key(65537, 2048).public_key(), 2)
    for file, held in {
        "other.pem": other.not_valid_before(SINCE).not_valid_after(UNTIL).sign(key, hashes.SHA256()).public_bytes(pem),
        "both.pem": public + plain,
        "cert.pem": public,
        "key.pem": plain,
        "locked.pem": public + locked,
        "both.pfx": pfx,
        "empty.pem": b"",
    }.items():
        (folder / file).write_bytes(held)
    (folder / "token").write_text("eyJ.federated.assertion\n")
    return folder


def token(**changed: Any) -> Entra:
    """Have a source ask for something; return what the authority was sent."""
    told = changed.pop("tokens", [])
    servers = Entra()

    async def ask() -> None:
        nonlocal servers
        async with (
            entra(users, tokens=told, discovery=changed.pop("discovery", None)) as servers,
            servers.source(**changed) as source,
        ):
            failed = [row for row in await source.check() if not row[1]]
            if failed:
                raise SourceRefused(failed[0][2])

    asyncio.run(ask())
    return servers


def test_a_secret_is_read_for_every_token() -> None:
    """After a 401 a new token is asked for, once, with the secret as it is then."""
    secrets = iter(["first", "second", "third"])
    refused: list[str] = []

    def once(request: web.Request) -> web.Response:
        refused.append(request.headers["Authorization"])
        return reply({"error": {"code": "InvalidAuthenticationToken"}}, 401) if len(refused) == 1 else users(request)

    async def ask() -> Entra:
        async with entra(once) as servers:
            async with servers.source(credential=ClientSecret(lambda: next(secrets))) as source:
                assert all(ok for _, ok, _ in await source.check())
            return servers

    servers = asyncio.run(ask())
    assert [form["client_secret"] for form in servers.forms] == ["first", "second"]
    assert servers.forms[0]["scope"] == f"{servers.url}/.default"
    assert refused[0] != refused[1]


def test_a_token_refused_twice_is_a_refusal() -> None:
    async def ask() -> None:
        async with entra(lambda _: reply({}, 401)) as servers, servers.source() as source:
            with pytest.raises(SourceRefused):
                await source.look_up("u-1", ())
            assert len(servers.forms) == 2

    asyncio.run(ask())


def test_a_token_is_renewed_before_it_ends_and_outlives_a_failed_renewal() -> None:
    async def ask() -> None:
        async with entra(users) as servers, servers.source() as source:
            await source.check()
            servers.clock.advance(3200)
            await source.check()
            assert len(servers.forms) == 1
            servers.clock.advance(200)
            servers.tokens = [reply({}, 503)]
            assert all(ok for _, ok, _ in await source.check())
            assert len(servers.forms) == 2
            servers.clock.advance(400)
            assert not all(ok for _, ok, _ in await source.check())

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("file", "key_file", "passphrase"),
    [("both.pem", "", None), ("cert.pem", "key.pem", None), ("locked.pem", "", "letmein"), ("both.pfx", "", "letmein")],
)
def test_a_certificate_signs_an_assertion(pems: Path, file: str, key_file: str, passphrase: str | None) -> None:
    word = None if passphrase is None else lambda: passphrase
    form = token(credential=Certificate(str(pems / file), str(pems / key_file) if key_file else "", word)).forms[0]
    head, claims = (
        json.loads(base64.urlsafe_b64decode(f"{part}==")) for part in form["client_assertion"].split(".")[:2]
    )
    assert head["alg"] == "PS256"
    assert claims["iss"] == claims["sub"] == "app-1"
    assert claims["aud"].endswith(f"/{TENANT}/oauth2/v2.0/token")
    assert "client_secret" not in form


def test_a_federated_token_is_sent_as_it_is_in_the_file(pems: Path) -> None:
    assert (
        token(credential=FederatedToken(str(pems / "token"))).forms[0]["client_assertion"] == "eyJ.federated.assertion"
    )


def test_entra_accepts_what_is_signed(pems: Path, tenant: Tenant) -> None:
    """The stand-in checks signature, issuer, audience and thumbprint as Entra does."""
    one, other = (pems / "cert.pem").read_text(), (pems / "other.pem").read_text()
    client = tenant.settings().client_id
    for known, good in ((one, True), (other, False)):
        tenant.graph.options(clients=[{"client_id": client, "certificates": [known]}])
        rows = tenant.run(lambda source: source.check(), credential=Certificate(str(pems / "both.pem")))
        assert rows[0][1] is good, rows[0][2]
    assert "AADSTS700027" in rows[0][2]


def test_entra_accepts_the_token_of_the_platform(pems: Path, tenant: Tenant, tmp_path: Path) -> None:
    """It is read for each token: the platform replaces it."""
    key = (pems / "key.pem").read_text()
    now = int(tenant.clock.now())
    claims = {"iss": "https://k8s.example.com", "aud": "api://AzureADTokenExchange", "iat": now, "exp": now + 600}
    file = tmp_path / "token"
    public = serialization.load_pem_private_key(key.encode(), None).public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
    federated = [{"issuer": claims["iss"], "subject": "idsync", "key": pem}]
    tenant.graph.options(clients=[{"client_id": tenant.settings().client_id, "federated": federated}])
    for subject, good in (("idsync", True), ("another", False)):
        file.write_text(jwt.encode({**claims, "sub": subject}, key, "RS256"))
        rows = tenant.run(lambda source: source.check(), credential=FederatedToken(str(file)))
        assert rows[0][1] is good, rows[0][2]
    assert "AADSTS700213" in rows[0][2]


@pytest.mark.parametrize("client_id", ["", "mi-7"])
def test_a_managed_identity_is_asked_for_beside_the_machine(client_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(request: web.Request) -> web.Response:
        if request.path != "/msi":
            return users(request)
        assert request.headers["X-IDENTITY-HEADER"] == "hush"
        assert request.query.get("client_id", "") == client_id
        return reply({"access_token": TOKEN, "expires_on": "4000000000", "token_type": "Bearer"})

    async def ask() -> None:
        async with (
            entra(answer) as servers,
            servers.source(credential=ManagedIdentity(client_id), client_id="", tenant_id="") as source,
        ):
            monkeypatch.setenv("IDENTITY_ENDPOINT", f"{servers.url}/msi")
            monkeypatch.setenv("IDENTITY_HEADER", "hush")
            assert all(ok for _, ok, _ in await source.check())
            assert servers.forms == []

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (7000222, "secret has expired: make a new one"),
        (7000215, "the secret's value, not its id"),
        (700027, "upload its public part"),
        (700016, "check client_id and tenant_id"),
        (700213, "federated credential"),
        (1234567, "AADSTS1234567"),
    ],
)
def test_a_refusal_says_what_to_do_and_nothing_else(code: int, words: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(SourceRefused, match=words) as refused:
        token(tokens=[refusal(code, f"the key was {SECRET}")])
    assert refused.value.exit_code == 6
    assert SECRET not in f"{refused.value}{caplog.text}"


def test_an_unknown_tenant() -> None:
    with pytest.raises(SourceRefused, match="check tenant_id"):
        token(discovery=(refusal(90002, "Tenant 'x' not found."), 400))


@pytest.mark.parametrize("elsewhere", ["https://login.example.com/t/token", "http://127.0.0.1:9/t/token"])
def test_a_credential_goes_to_the_authority_alone(elsewhere: str) -> None:
    """Whatever the authority's own description says."""
    told = {"issuer": "x", "authorization_endpoint": "x", "token_endpoint": elsewhere}
    with pytest.raises(SourceRefused, match=r"not followed|cannot be used"):
        token(discovery=(told, 200))


@pytest.mark.parametrize(
    "told",
    [
        {"tokens": [reply({}, 503)]},
        {"tokens": [reply({}, 429)]},
        {"tokens": [reply(f'{{"access_token": "{TOKEN}-cut'.encode())]},
        {"tokens": [reply(b"<html>")]},
        {"tokens": [{"access_token": ""}]},
        {"tokens": [reply({"access_token": "two\nlines", "expires_in": 3599})]},
        {"tokens": [reply([1])]},
        {"discovery": (b"<html>", 200)},
        {"discovery": ({}, 200)},
        {"discovery": ({}, 503)},
        {"credential": FederatedToken("/nowhere/token")},
        {"credential": Certificate("/nowhere/cert.pem")},
        {"credential": Certificate("/nowhere/cert.pfx")},
    ],
    ids=str,
)
def test_no_token_is_no_answer(told: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """Whatever the authority says: a branch of IncompleteSource, and no token in any log."""
    caplog.set_level(logging.DEBUG)

    async def ask() -> None:
        changed = {key: value for key, value in told.items() if key == "credential"}
        served: dict[str, Any] = {key: value for key, value in told.items() if key != "credential"}
        async with entra(users, **served) as servers, servers.source(**changed) as source:
            with pytest.raises((SourceRefused, SourceUnreachable)):
                await source.look_up("u-1", ())
            assert servers.graph_asked() == []

    asyncio.run(ask())
    assert TOKEN not in caplog.text


@pytest.mark.parametrize(
    ("file", "passphrase"), [("locked.pem", "wrong"), ("both.pfx", "wrong"), ("empty.pem", None), ("cert.pem", None)]
)
def test_a_certificate_that_cannot_be_used(pems: Path, file: str, passphrase: str | None) -> None:
    word = None if passphrase is None else lambda: passphrase
    with pytest.raises(SourceRefused, match=r"passphrase|PEM|empty"):
        token(credential=Certificate(str(pems / file), "", word))


def test_nothing_of_the_environment_counts(pems: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A private authority by TLS: our CA file counts, another one, a proxy and a region of the environment do not."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pems / "cert.pem", pems / "key.pem")
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, str(pems / "empty.pem"))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("MSAL_FORCE_REGION", "westus")

    async def ask() -> None:
        async with entra(users, tls) as servers:
            async with servers.source(ca_file=str(pems / "cert.pem")) as source:
                assert all(ok for _, ok, _ in await source.check())
            async with servers.source() as source:
                assert "certificate is not trusted" in (await source.check())[0][2]

    asyncio.run(ask())


@pytest.mark.parametrize(
    "changed",
    [
        {"authority": "http://login.example.com"},
        {"graph_url": "http://graph.example.com"},
        {"graph_url": "https://me@graph.example.com"},
        {"authority": "login.example.com"},
        {"tenant_id": "../common"},
        {"tenant_id": ""},
        {"tenant_id": "common"},
        {"client_id": ""},
    ],
)
def test_settings_that_would_send_a_secret_astray(changed: dict[str, str]) -> None:
    usual: dict[str, Any] = {"name": "entra", "tenant_id": TENANT, "client_id": "app-1"}
    with pytest.raises(ConfigError):
        GraphSettings(credential=ClientSecret(lambda: SECRET), **{**usual, **changed})


def test_a_secret_is_in_no_representation() -> None:
    assert SECRET not in repr(Entra(url="http://127.0.0.1:1").settings())
    assert issubclass(SourceRefused, IncompleteSource)
