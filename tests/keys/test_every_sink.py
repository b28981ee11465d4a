"""A key is made and rotated into each kind of sink: what the sink holds always works, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sinks.kubernetes_standin import Cluster
from sinks.vault_server import Vault
from sinks.vault_standin import VaultStandIn
from support.settings import DATA

from .ground import ALIAS, KEY, Ground

Place = tuple[dict[str, Any], Callable[[], str]]
TAKE = "#!/bin/sh\nread -r secret\nprintf %s \"$secret\" > '{}'\n"


def _file(folder: Path, _stack: ExitStack) -> Place:
    (folder / "sink").mkdir(mode=0o700)
    target = folder / "sink" / "key"
    return {"kind": "file", "path": str(target)}, target.read_text


def _command(folder: Path, _stack: ExitStack) -> Place:
    program, target = folder / "take", folder / "taken"
    program.write_text(TAKE.format(target))
    program.chmod(0o700)
    return {"kind": "command", "command": [str(program)]}, target.read_text


def _vault(folder: Path, stack: ExitStack) -> Place:
    vault = Vault(stack.enter_context(VaultStandIn()).url)
    token = folder / "vault.token"
    token.write_text(vault.token)
    token.chmod(0o600)
    table = {"kind": "vault", "url": vault.url, "path": "teams/prod", "token_file": str(token)}
    return table, lambda: str(vault.fields("teams/prod")["key"])


def _kubernetes(folder: Path, stack: ExitStack) -> Place:
    cluster = stack.enter_context(Cluster())
    token = folder / "pod.token"
    token.write_text(cluster.token)
    token.chmod(0o600)
    address = {"api_url": cluster.url, "token_file": str(token), "namespace": "gateway", "secret": "keys"}
    return {"kind": "kubernetes", **address}, lambda: cluster.data("gateway/keys")["key"]


@pytest.fixture(params=[_file, _command, _vault, _kubernetes], ids=lambda make: make.__name__.strip("_"))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        yield request.param(tmp_path, stack)


def test_a_key_is_made_and_rotated_into_any_sink(ground: Ground, place: Place) -> None:
    table, held = place
    home = ground.opened(sinks=[{"name": "there", **table}], teams=[{**DATA, "keys": [{**KEY, "sink": "there"}]}])
    assert home.reconcile()["failed_keys"] == {}
    first = held()
    assert ground.works(first)
    home.run(home.core.commands(alone=False).rotate_key(alias=ALIAS, by="ops"))
    second = held()
    assert (first != second, ground.works(second), ground.used(first)) == (True, True, 401)
    assert ground.shared().keys() == {ALIAS}
    before = ground.gateway.ready()
    assert home.reconcile()["changes"] == []
    assert ground.gateway.paths(before, writes=True) == []
