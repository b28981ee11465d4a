"""Who asks: service apps with RSA and EC keys, with and without DPoP, API tokens, and what a refusal says."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from idsync.errors import ConfigError, IncompleteSource, SourceRefused
from idsync.sandbox.okta.service import TOKEN
from idsync.sandbox.server import Options, Sandbox
from idsync.sources.okta.source import OktaSettings, OktaSource

from .org import Org

CLIENT = "0oaidsync"
SCOPES = ["okta.users.read", "okta.groups.read", "okta.logs.read", "okta.apps.read"]
KEYS: dict[str, Any] = {
    "rsa": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "p256": ec.generate_private_key(ec.SECP256R1()),
    "p384": ec.generate_private_key(ec.SECP384R1()),
    "p521": ec.generate_private_key(ec.SECP521R1()),
}


def pem(key: Any) -> str:
    return str(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


def public(key: Any) -> str:
    return str(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def jwk(key: Any, **more: str) -> dict[str, Any]:
    sort = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    return {**sort.to_jwk(key, as_dict=True), **more}


@pytest.fixture(scope="module")
def _running() -> Iterator[Sandbox]:
    with Sandbox(Options(clock="real")) as sandbox:
        yield sandbox


@pytest.fixture
def org(_running: Sandbox) -> Iterator[Org]:
    """An org whose clock is the machine's, because the proofs of the `okta` package are made by that."""
    org = Org(_running, age=0.0)
    began = org.clock.now()
    yield org
    org.move_clock(min(0.0, began - org.clock.now()))


def register(org: Org, *keys: Any, dpop: bool = False, scopes: list[str] = SCOPES) -> None:
    org.options(clients=[{"client_id": CLIENT, "keys": list(keys), "scopes": scopes, "dpop": dpop}])


def app(key: str, **more: Any) -> dict[str, Any]:
    return {"client_id": CLIENT, "private_key": lambda: key, **more}


@pytest.mark.parametrize("dpop", [False, True])
@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("form", ["pem", "jwk"])
def test_a_service_app(org: Org, name: str, form: str, dpop: bool) -> None:
    register(org, public(KEYS[name]), dpop=dpop)
    key = pem(KEYS[name]) if form == "pem" else json.dumps(jwk(KEYS[name], kid="k1"))
    assert len(org.snapshot(**app(key)).users) == 5
    callers = {entry["caller"] for entry in org.asked()}
    assert callers - {"client"} == {"dpop" if dpop else "oauth"}
    tokens = [entry["status"] for entry in org.asked() if entry["path"] == "/oauth2/v1/token"]
    assert tokens == ([400, 400, 200] if dpop else [200])


def test_a_key_is_named_where_several_are_registered(org: Org) -> None:
    register(org, jwk(ec.generate_private_key(ec.SECP256R1()), kid="old"), jwk(KEYS["p256"], kid="new"))
    org.snapshot(**app(json.dumps(jwk(KEYS["p256"], kid="new"))))
    org.snapshot(**app(pem(KEYS["p256"]), key_id="new"))
    with pytest.raises(SourceRefused):
        org.snapshot(**app(pem(KEYS["p256"]), key_id="old"))


@pytest.mark.parametrize("mode", ["on", "off"])
def test_dpop_can_be_demanded_or_refused(org: Org, mode: str) -> None:
    register(org, public(KEYS["p256"]), dpop=True)
    if mode == "on":
        org.snapshot(**app(pem(KEYS["p256"]), dpop=mode))
        return
    with pytest.raises(SourceRefused, match='dpop = "auto"'):
        org.snapshot(**app(pem(KEYS["p256"]), dpop=mode))


def test_tokens_end_and_nonces_change_without_anybody_noticing(org: Org) -> None:
    register(org, public(KEYS["p256"]), dpop=True)

    async def read(source: OktaSource) -> None:
        for act in ("revoke_tokens", "new_nonce", "revoke_tokens"):
            await source.look_up(org.ids["ann"], [])
            org.act(act)
        await source.look_up(org.ids["ann"], [])

    org.ask(read, **app(pem(KEYS["p256"])))


@pytest.mark.parametrize("status", [400, 401])
def test_the_api_asks_for_a_nonce_of_its_own(org: Org, status: int) -> None:
    register(org, public(KEYS["p256"]), dpop=True)
    org.break_with("/api/v1/users/*", status=status, headers={"dpop-nonce": "of-the-api"}, times=1)
    assert org.look("ann", (), **app(pem(KEYS["p256"]))).user.user_name == "ann@example.com"
    assert org.paths().count("/oauth2/v1/token") == 3, "the token was good"


def test_an_access_token_is_used_for_most_of_its_hour(org: Org) -> None:
    register(org, public(KEYS["p256"]))

    async def read(source: OktaSource) -> None:
        for _ in range(13):
            await source.look_up(org.ids["ann"], [])
            org.pass_time(300)

    org.ask(read, **app(pem(KEYS["p256"])))
    assert org.paths().count("/oauth2/v1/token") == 2
    assert {entry["status"] for entry in org.asked()} == {200}, "the first was exchanged before it ended"


def test_keys_and_tokens_are_exchanged_without_a_restart(org: Org) -> None:
    keys = [pem(KEYS["rsa"])]
    register(org, public(KEYS["rsa"]))

    async def read(source: OktaSource) -> None:
        await source.look_up(org.ids["ann"], [])
        register(org, public(KEYS["p256"]))
        org.act("revoke_tokens")
        keys[0] = pem(KEYS["p256"])
        await source.look_up(org.ids["ann"], [])

    org.ask(read, client_id=CLIENT, private_key=lambda: keys[0])
    tokens = [TOKEN]

    async def read_again(source: OktaSource) -> None:
        await source.look_up(org.ids["ann"], [])
        tokens[0] = "00another"
        org.options(tokens=["00another"])
        await source.look_up(org.ids["ann"], [])

    org.ask(read_again, api_token=lambda: tokens[0])


REFUSALS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"keys": [public(KEYS["p384"])]}, {}, "invalid_client.*public key"),
    ({}, {"client_id": "0oaother"}, "invalid_client"),
    ({"scopes": SCOPES[1:]}, {}, "invalid_scope.*Okta API Scopes"),
    ({}, {"private_key": lambda: "no key"}, "neither PEM nor JWK"),
    ({}, {"private_key": lambda: "{}"}, "neither PEM nor JWK"),
    ({}, {"private_key": lambda: public(KEYS["rsa"])}, "neither PEM nor JWK"),
    ({}, {"private_key": lambda: json.dumps({"kty": "oct", "k": "c2VjcmV0"})}, "neither PEM nor JWK"),
    ({}, {"private_key": lambda: pem(ed25519.Ed25519PrivateKey.generate())}, "neither PEM nor JWK"),
    ({}, {"private_key": lambda: Path("/nowhere/key.pem").read_text()}, "cannot be read"),
    ({}, {"private_key": None, "api_token": lambda: "00wrong"}, "401"),
    ({}, {"private_key": None, "api_token": lambda: "00wrong\n00wrong"}, "no token has"),
    ({}, {"private_key": None, "api_token": lambda: " \n"}, "empty"),
    ({}, {"private_key": None, "api_token": lambda: Path("/nowhere/token").read_text()}, "cannot be read"),
]


@pytest.mark.parametrize(("client", "given", "said"), REFUSALS)
def test_a_refusal_says_what_to_do_and_no_secret(
    org: Org, client: dict[str, Any], given: dict[str, Any], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    shown = {"client_id": CLIENT, "keys": [public(KEYS["p256"])], "scopes": SCOPES, "dpop": True, **client}
    org.options(clients=[shown])
    settings = {**app(pem(KEYS["p256"])), **given}
    if settings["private_key"] is None:
        del settings["private_key"], settings["client_id"]
    with pytest.raises(SourceRefused, match=said) as caught:
        org.snapshot(**settings)
    everything = f"{caught.value}{caught.value.__dict__}{caplog.text}{org.settings(**settings)}"
    assert not [secret for secret in ("eyJ", "PRIVATE KEY", "00wrong", "c2VjcmV0", "MIG") if secret in everything]


def test_a_wrong_clock_is_named(org: Org) -> None:
    register(org, public(KEYS["p256"]))
    org.clock.advance(-7200)
    with pytest.raises(SourceRefused, match=r"clock is 7\d\d\d s behind"):
        org.snapshot(**app(pem(KEYS["p256"])))


@pytest.mark.parametrize(
    "rule",
    [
        {"status": 200, "body": "{}"},
        {"status": 200, "body": '{"token_type":"Bearer","access_token":"","expires_in":3600}'},
        {"status": 200, "body": '{"token_type":"mac","access_token":"eyJ","expires_in":3600}'},
        {"status": 200, "body": '{"token_type":"DPoP","access_token":"eyJ","expires_in":3600}'},
        {"status": 200, "body": '{"token_type":"Bearer","access_token":"eyJ","expires_in":"soon"}'},
        {"html": True},
        {"status": 500},
        {"throttle": "rate"},
        {"status": 400, "body": '{"error":"use_dpop_nonce"}', "headers": {"dpop-nonce": "again"}},
    ],
)
def test_no_token_is_no_pass(org: Org, rule: dict[str, Any]) -> None:
    register(org, public(KEYS["p256"]))
    org.break_with("/oauth2/v1/token", **rule)
    with pytest.raises(IncompleteSource) as caught:
        org.snapshot(**app(pem(KEYS["p256"])))
    assert "eyJ" not in str(caught.value)


# each permission by itself


def test_what_is_missing_is_said_scope_by_scope(org: Org) -> None:
    register(org, public(KEYS["p256"]), scopes=SCOPES[:2] + SCOPES[3:], dpop=True)
    lines = org.ask(lambda source: source.check(), **app(pem(KEYS["p256"])), app_id=org.app)
    assert [(what.split()[0], fine) for what, fine, _ in lines] == [
        ("okta.users.read", True),
        ("okta.groups.read", True),
        ("okta.logs.read", False),
        ("okta.apps.read", True),
    ]
    assert "Okta API Scopes, grant okta.logs.read" in lines[2][2]


def test_without_the_scope_of_the_log_all_the_rest_goes_on(org: Org) -> None:
    register(org, public(KEYS["p256"]), scopes=SCOPES[:2], dpop=True)
    assert len(org.snapshot(**app(pem(KEYS["p256"]))).users) == 5
    found = org.ask(lambda source: source.events(""), **app(pem(KEYS["p256"])))
    assert (found.cursor, found.look_up, found.more) == ("", frozenset(), False)
    register(org, public(KEYS["p256"]), dpop=True)
    cursor = org.ask(lambda source: source.events(""), **app(pem(KEYS["p256"]))).cursor
    register(org, public(KEYS["p256"]), scopes=SCOPES[:2], dpop=True)
    with pytest.raises(SourceRefused, match="403"):
        org.ask(lambda source: source.events(cursor), **app(pem(KEYS["p256"])))


def test_a_scope_without_a_role_is_said(org: Org) -> None:
    register(org, public(KEYS["p256"]))
    org.break_with("/api/v1/users", status=403)
    lines = org.ask(lambda source: source.check(), **app(pem(KEYS["p256"])))
    assert [fine for _, fine, _ in lines] == [False, True, True]
    assert "an admin role that may view all users" in lines[0][2]


def test_an_api_token_is_advised_against(org: Org) -> None:
    lines = org.ask(lambda source: source.check())
    assert [fine for _, fine, _ in lines] == [True] * 4
    assert "dies when they are deactivated" in lines[3][2]
    org.options(tokens=[])
    assert [fine for _, fine, _ in org.ask(lambda source: source.check())] == [False] * 3 + [True]


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"org_url": "http://acme.okta.com"}, "org_url"),
        ({"org_url": "https://acme-admin.okta.com"}, "org_url"),
        ({"api_token": None}, "private_key_file"),
        ({"client_id": "0oa", "private_key": lambda: ""}, "private_key_file"),
        ({"api_token": None, "private_key": lambda: ""}, "private_key_file"),
        ({"ca_file": "/nowhere.pem"}, "ca_file"),
    ],
)
def test_settings_that_cannot_be(org: Org, changes: dict[str, Any], path: str) -> None:
    given: dict[str, Any] = {"name": "okta-poll", "org_url": "https://acme.okta.com", "api_token": lambda: TOKEN}
    with pytest.raises(ConfigError, match=path):
        OktaSource(OktaSettings(**(given | changes)), org.clock)


# what lies around on the host

HOSTILE = """
okta:
  client:
    orgUrl: "https://evil.example.com"
    token: "00stray"
    authorizationMode: "SSWS"
    requestTimeout: 1
    dpopEnabled: false
    proxy: {host: "127.0.0.1", port: 9}
  testing: {testingDisableHttpsCheck: true}
"""
CHILD = """
import asyncio, sys
from idsync.clock import SystemClock
from idsync.sources.okta.source import OktaSettings, OktaSource

async def main(url, client, key, user):
    with open(key) as file:
        secret = file.read()
    source = OktaSource(OktaSettings("okta-poll", url, client, lambda: secret), SystemClock())
    early = "okta" in sys.modules
    print((await source.look_up(user, [])).user.user_name, early, "okta.client" in sys.modules, "okta.dpop" in sys.modules)
    await source.close()

asyncio.run(main(*sys.argv[1:]))
"""


def test_stray_configuration_changes_nothing(org: Org, tmp_path: Path) -> None:
    register(org, public(KEYS["p256"]), dpop=True)
    (tmp_path / ".okta").mkdir()
    (tmp_path / ".okta" / "okta.yaml").write_text(HOSTILE)
    (tmp_path / "okta.yaml").write_text(HOSTILE)
    (tmp_path / "key.pem").write_text(pem(KEYS["p256"]))
    stray = {"ORGURL": "https://evil.example.com", "TOKEN": "00stray", "AUTHORIZATIONMODE": "SSWS", "DPOPENABLED": ""}
    hostile = {f"OKTA_CLIENT_{name}": value for name, value in stray.items()}
    hostile |= {
        "OKTA_CLIENT_RATELIMIT_MAXRETRIES": "x",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "HTTPS_PROXY": "http://127.0.0.1:9",
    }
    home = {"HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2]), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, org.org_url, CLIENT, str(tmp_path / "key.pem"), org.ids["ann"]],
        cwd=tmp_path,
        env=home | hostile,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("ann@example.com False False True\n", 0), done.stderr
    assert done.stderr == ""


def test_help_loads_nothing_of_it() -> None:
    asked = [sys.executable, "-X", "importtime", "-m", "idsync", "--help"]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=True)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "idsync.cli.main" in loaded
    assert not loaded & {"okta", "aiohttp", "jwt", "msal"}
