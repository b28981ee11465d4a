"""`idsync doctor`: what the gateway is, what drills have shown, and exit code 1 when something is wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.daemon import Done, idsync
from support.gateway import Gateway
from support.settings import ADMIN_KEY, write_settings
from support.stores import SHARED, url_of

from idsync.gateway.client import GatewaySettings
from idsync.sandbox.server import Options, Sandbox
from idsync.store import facts, verdicts
from idsync.store.db import Store
from idsync.store.opening import store_of
from idsync.store.verdicts import Fence, Window

HOUR = 3600.0


@pytest.fixture(scope="module")
def _sandbox() -> Iterator[Sandbox]:
    with Sandbox(Options()) as running:
        yield running


@pytest.fixture
def gateway(_sandbox: Sandbox) -> Gateway:
    client = Gateway(_sandbox)
    client.hook("reset")
    return client


@pytest.fixture
def settings(tmp_path: Path, gateway: Gateway) -> Path:
    return write_settings(tmp_path, gateway.sandbox.url, routero={"replica_urls": gateway.sandbox.replica_urls})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """The store of a daemon that has been here; closed before the doctor is asked."""
    made = store_of(url_of(tmp_path / "idsync.db"))
    made.open()
    yield made
    made.close()


def examine(settings: Path) -> tuple[Done, dict[str, dict[str, Any]]]:
    """Ask for JSON; return it by the name of the check (of several, the one that went wrong)."""
    done = idsync(settings, "doctor", "--json")
    found: dict[str, dict[str, Any]] = {}
    for check in done.json["checks"]:
        if found.get(check["check"], {}).get("ok") is not False:
            found[check["check"]] = check
    assert done.json["ok"] == (done.code == 0)
    return done, found


def test_before_the_first_start_it_says_what_is_assumed(settings: Path, gateway: Gateway) -> None:
    done, found = examine(settings)
    assert done.code == 0
    assert SHARED or "there is no store" in found["store"]["says"]
    assert (found["fence"]["verdict"], found["cache"]["measured"]) == ("assumed", False)
    assert found["cache"]["says"] == "not measured; 60s assumed (routero.cache_time): run idsync drill"
    assert found["verbs"]["verbs"]["key_delete"] == "POST"
    assert (found["endpoints"]["missing"], found["gateway"]["admin_key"]) == ([], "accepted")
    assert {row["method"] for row in gateway.log()} <= {"GET", "HEAD"}, "it reads only"
    assert ADMIN_KEY not in done.out + done.err


@pytest.mark.parametrize(
    ("fence", "says"),
    [
        (Fence("proven", 0.04, 0.0, 3), "proven 3 h ago: a fenced key was refused after 0.1 s at each of 3 replicas"),
        (
            Fence("proven", 0.04, 0.0),
            "proven 3 h ago: a fenced key was refused after 0.1 s at the gateway's address, not at each process",
        ),
        (Fence("unsupported", None, 0.0), "unsupported, seen 3 h ago"),
    ],
    ids=str,
)
def test_what_drills_have_shown_is_said_with_its_age(
    settings: Path, gateway: Gateway, store: Store, fence: Fence, says: str
) -> None:
    name, at = GatewaySettings(gateway.sandbox.url, "litellm").name, time.time() - 3 * HOUR
    store.write(lambda db: verdicts.put_fence(db, name, replace(fence, at=at)))
    store.write(lambda db: verdicts.put_window(db, name, Window(61.23, 3, at)))
    done, found = examine(settings)
    assert (done.code, found["fence"]["verdict"], found["cache"]["seconds"]) == (0, fence.verdict, 61.23)
    assert found["fence"]["says"].startswith(says)
    text = idsync(settings, "doctor").out
    assert "a deleted key may live up to 61.3 s here (measured 3 h ago at each of 3 replicas)" in text
    assert "routero.cache_time (60s) is shorter" in text


def test_a_drill_that_failed_is_wrong(settings: Path, store: Store) -> None:
    now = time.time()
    last = {"at": now, "ok": False, "problems": ["it still takes a key"]}
    store.write(lambda db: facts.put(db, "drill:last", last, now))
    done, found = examine(settings)
    assert (done.code, found["drill"]["says"]) == (1, "failed just now: it still takes a key")


@pytest.mark.parametrize(
    ("fault", "check", "says"),
    [
        ({"path": "/key/list", "status": 503}, "gateway", "503"),
        ({"path": "/v1/models", "replica": 2, "drop": "before"}, "replica", "/replica/2: "),
        ({"path": "/v1/models", "replica": 2, "status": 200, "body": "hello"}, "replica", "no address of a gateway"),
        ({"path": "/openapi.json", "status": 200, "body": '{"paths": {}}'}, "endpoints", "/key/delete"),
    ],
    ids=["gateway", "replica-down", "replica-wrong", "paths"],
)
def test_what_is_wrong_at_the_gateway_is_found(
    settings: Path, gateway: Gateway, fault: dict[str, Any], check: str, says: str
) -> None:
    gateway.fault(**fault)
    done, found = examine(settings)
    assert (done.code, found[check]["ok"]) == (1, False)
    assert says in found[check]["says"]


@pytest.mark.parametrize("lost", ["/key/block", "/user/delete"])
def test_a_path_that_can_be_done_without_is_told_and_not_wrong(settings: Path, gateway: Gateway, lost: str) -> None:
    served = gateway.get("/openapi.json").body
    del served["paths"][lost]
    gateway.fault(path="/openapi.json", status=200, content_type="application/json", body=str(served).replace("'", '"'))
    done, found = examine(settings)
    assert (done.code, found["endpoints"]["ok"], found["endpoints"]["missing"]) == (0, None, [lost])


def test_an_admin_key_that_is_refused_is_wrong(settings: Path) -> None:
    (settings.parent / "admin.key").write_text("sk-somebody-elses")
    done, found = examine(settings)
    assert (done.code, found["gateway"]["admin_key"]) == (1, "refused")
    assert "sk-somebody-elses" not in done.out + done.err


@pytest.mark.parametrize("broken", ["nonsense = 1\n{}", '{}\n[drill]\nevery = "1s"'])
def test_a_configuration_that_cannot_be_used_is_a_finding_like_others(settings: Path, broken: str) -> None:
    settings.write_text(broken.format(settings.read_text()))
    done, found = examine(settings)
    assert (done.code, found["configuration"]["ok"]) == (1, False)


def test_without_an_admin_key_the_rest_is_examined_all_the_same(settings: Path) -> None:
    (settings.parent / "admin.key").unlink()
    done, found = examine(settings)
    assert (done.code, found["configuration"]["ok"], "gateway" in found) == (1, False, False)
    assert found["fence"]["verdict"] == "assumed"
