"""Vault: what the sink writes is there, what others wrote stays, and each refusal is one sentence."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from idsync.errors import ConfigError
from idsync.sinks.vault import AppRole, Token

from .handed import SECRET, deliver, delivery, problems, refused
from .vault_server import Vault, found, new_alias, policy_of
from .vault_standin import VaultStandIn


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault]:
    with found(tmp_path_factory.mktemp("vault")) as server:
        yield server


def test_a_secret_is_made_and_changed_and_the_other_fields_stay(vault: Vault) -> None:
    alias, sink = new_alias(), vault.sink()
    assert problems(sink) == []
    deliver(sink, "the-first", alias)
    assert vault.fields(f"teams/{alias}") == {"api_key": "the-first"}
    vault.put(f"teams/{alias}", {"api_key": "the-first", "owner": "ds", "ports": [1, 2], "deep": {"a": None}})
    deliver(sink, SECRET, alias)
    assert vault.fields(f"teams/{alias}") == {"api_key": SECRET, "owner": "ds", "ports": [1, 2], "deep": {"a": None}}


def test_the_same_secret_once_more_makes_no_version(vault: Vault) -> None:
    alias, sink = new_alias(), vault.sink()
    for _ in range(2):
        deliver(sink, SECRET, alias)
    version = vault.ask("GET", f"secret/data/teams/{alias}")["data"]["metadata"]["version"]
    assert version == 1


def test_a_deleted_secret_is_written_anew(vault: Vault) -> None:
    alias, sink = new_alias(), vault.sink()
    deliver(sink, "the-first", alias)
    vault.ask("DELETE", f"secret/data/teams/{alias}")
    deliver(sink, SECRET, alias)
    assert vault.fields(f"teams/{alias}") == {"api_key": SECRET}


def test_writers_at_the_same_time_lose_nothing_of_each_other(vault: Vault) -> None:
    path = new_alias()
    sinks = [vault.sink(path=f"teams/{path}", field=f"{writer}-{{alias}}") for writer in ("a", "b")]

    async def all_at_once() -> None:
        handed = [delivery(f"secret {number}", alias=f"key-{number}") for number in range(6)]
        await asyncio.gather(*(sinks[0].deliver(entry) for entry in handed), sinks[1].deliver(delivery()))

    asyncio.run(all_at_once())
    wanted = {f"a-key-{number}": f"secret {number}" for number in range(6)}
    assert vault.fields(f"teams/{path}") == {**wanted, "b-ds-prod": SECRET}


@pytest.mark.parametrize(
    ("alias", "name"),
    [("../../sys/x", "%2E.%2F..%2Fsys%2Fx"), ("a/b", "a%2Fb"), ("a%2Fb", "a%252Fb"), ("a b?c#d", "a b%3Fc%23d")],
)
def test_whatever_a_key_is_called_it_is_one_name_below_the_path(vault: Vault, alias: str, name: str) -> None:
    deliver(vault.sink(), SECRET, alias)
    assert vault.fields(f"teams/{name}") == {"api_key": SECRET}


def test_a_role_logs_in_for_every_delivery(vault: Vault) -> None:
    alias, sink = new_alias(), vault.sink(vault.app_role())
    assert problems(sink) == []
    deliver(sink, SECRET, alias)
    assert vault.fields(f"teams/{alias}") == {"api_key": SECRET}


def _no_file() -> str:
    raise ConfigError([("/run/secrets/vault", "cannot read the secret: No such file or directory")])


@pytest.mark.parametrize(
    ("credential", "other", "says"),
    [
        (Token(lambda: "hvs.expired"), {}, "Vault refuses the token"),
        (Token(lambda: "two\nlines"), {}, "more than one line"),
        (Token(_no_file), {}, "No such file"),
        (AppRole("nobody", lambda: "wrong"), {}, "refuses the role_id or secret_id at auth/approle"),
        (AppRole("nobody", lambda: "wrong", "elsewhere"), {}, "auth/elsewhere, or has no AppRole"),
        (None, {"mount": "nowhere"}, "there is no such engine"),
        (Token(lambda: "root"), {"mount": "old"}, "kv version 1, not kv version 2"),
        (None, {"path": "others/{alias}"}, "lacks create, read, update"),
        (None, {"namespace": "nobody"}, "namespace"),
    ],
)
def test_what_vault_refuses_is_told_with_what_to_do(
    vault: Vault, credential: Token | AppRole | None, other: dict[str, Any], says: str
) -> None:
    sink = vault.sink(credential, **other)
    sentence = refused(sink, alias=new_alias())
    assert says in sentence
    assert len(problems(sink)) == 1


@pytest.mark.parametrize("lacks", ["create", "read", "update"])
def test_a_policy_that_gives_too_little_is_found_by_looking(vault: Vault, lacks: str) -> None:
    able = [capability for capability in ("create", "read", "update") if capability != lacks]
    vault.ask("PUT", f"sys/policies/acl/without-{lacks}", policy_of(*able))
    token = vault.new_token(f"without-{lacks}")
    alias, sink = new_alias(), vault.sink(Token(lambda: token))
    assert [lacks in found for found in problems(sink)] == [True]
    if lacks == "update":
        vault.put(f"teams/{alias}", {"api_key": "the-first"})
    assert "policy lacks" in refused(sink, alias=alias)
    assert vault.fields(f"teams/{alias}") == ({"api_key": "the-first"} if lacks == "update" else None)


# -- what a dev server cannot be made to do ---------------------------------------------------------------------------


@pytest.fixture
def standin() -> Iterator[VaultStandIn]:
    with VaultStandIn() as server:
        yield server


@pytest.mark.parametrize("verb", ["GET", "POST"])
@pytest.mark.parametrize(
    ("status", "says"),
    [
        (307, "address of the active server"),
        (400, "of one kind"),
        (403, "expired, or its policy lacks"),
        (412, "has not caught up"),
        (429, "fewer calls"),
        (473, "performance standby"),
        (500, "of one kind"),
        (503, "sealed"),
    ],
)
def test_each_answer_of_a_vault_in_trouble_is_a_sentence(
    standin: VaultStandIn, verb: str, status: int, says: str
) -> None:
    vault = Vault(standin.url)
    said = {"errors": [f"something of one kind, about {SECRET}"]}
    standin.before = lambda asked, path: (
        (status, said) if (asked, path) == (verb, "secret/data/teams/ds-prod") else None
    )
    sentence = refused(vault.sink())
    assert says in sentence
    assert str(status) in sentence


@pytest.mark.parametrize(
    ("asked", "credential"),
    [
        ("auth/approle/login", AppRole("id-of-idsync", lambda: "the-secret-id-0123456789")),
        ("secret/data/teams/ds-prod", Token(lambda: "the-secret-id-0123456789")),
    ],
    ids=["logging in", "with a token"],
)
def test_what_idsync_logs_in_with_is_in_no_sentence(
    standin: VaultStandIn, asked: str, credential: Token | AppRole
) -> None:
    said = {"errors": [f"cannot use the-secret-id-0123456789 here, nor {SECRET}"]}
    standin.tokens["the-secret-id-0123456789"] = ["idsync"]
    standin.policies["idsync"] = {"secret/data/*": ["create", "read", "update"]}
    standin.before = lambda _, path: (500, said) if path == asked else None
    sentence = refused(Vault(standin.url).sink(credential))
    assert "500" in sentence
    assert "cannot use" in sentence
    assert not any(piece in sentence for piece in ("the-sec", "456789", SECRET))


@pytest.mark.parametrize(("times", "arrives"), [(1, True), (9, True), (10, False)])
def test_somebody_who_writes_in_between_is_never_overwritten(standin: VaultStandIn, times: int, arrives: bool) -> None:
    vault = Vault(standin.url)
    others = [{"owner": f"somebody {number}"} for number in range(times)]

    def write_first(verb: str, path: str) -> None:
        if (verb, path) == ("POST", "secret/data/teams/ds-prod") and others:
            standin.versions[path] = [*standin.versions.get(path, []), others.pop(0)]

    standin.before = write_first
    if arrives:
        deliver(vault.sink())
    else:
        assert "kept changing" in refused(vault.sink())
    owner = {"owner": f"somebody {times - 1}"}
    assert vault.fields("teams/ds-prod") == ({**owner, "api_key": SECRET} if arrives else owner)


def test_a_vault_that_is_down_is_told_of() -> None:
    with VaultStandIn() as gone:
        vault = Vault(gone.url)
    assert "no connection to Vault" in refused(vault.sink())
