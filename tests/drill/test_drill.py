"""A drill finds out what the gateway does with a key, tells it, is counted nowhere, and leaves nothing behind."""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.settings import TOKEN
from support.stores import url_of
from support.waiting import until

from idsync.store import facts, tokens
from idsync.store.opening import store_of

from .ground import Ground, ground

QUICK = {"drill": {"every": "1h"}}


@pytest.fixture(scope="module")
def _shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    with ground(tmp_path_factory.mktemp("ground")) as made:
        yield made


@pytest.fixture
def here(_shared: Ground) -> Iterator[Ground]:
    """A ground that several tests share; each leaves it as it was."""
    yield _shared
    _shared.gateway.mend()


@pytest.mark.parametrize(
    ("gateway", "timeout", "fence", "waits"),
    [
        ({"dialect": "litellm"}, 20, "proven", True),
        ({"dialect": "routero"}, 20, "proven", True),
        ({"dialect": "litellm", "broadcast": "all", "cache_ttl": 60.0}, 20, "proven", False),
        ({"dialect": "litellm", "broadcast": "off"}, 20, "proven", True),
        ({"dialect": "routero", "fence": False}, 2, "unsupported", True),
        ({"dialect": "litellm", "fence": False, "broadcast": "off"}, 2, "unsupported", True),
    ],
    ids=str,
)
def test_what_the_gateway_is_like_is_measured_and_nothing_is_left(
    tmp_path: Path, gateway: dict[str, Any], timeout: float, fence: str, waits: bool
) -> None:
    """`waits`: a deleted key lives on in the other replicas, for the cache time."""
    with ground(tmp_path, {"routero": {"cache_time": "1s"}}, **gateway) as here:
        before = here.state()
        done = here.drill(timeout=timeout)
        assert (done.code, done.json["problems"]) == (0, []), done.err
        assert (done.json["fence"]["verdict"], done.json["source"]) == (fence, "drill")
        assert [entry["url"] for entry in done.json["replicas"]] == here.sandbox.replica_urls
        assert all(entry["chain_seconds"] and entry["deletion_seconds"] for entry in done.json["replicas"])
        assert (done.json["cache_window_seconds"] >= here.sandbox.options.cache_ttl) == waits
        assert set(done.json["stages"]) == {"accepted", "fenced", "blocked", "deleted", "verified"}
        assert here.state() == before
        shown = here.metrics()
        assert shown["idsync_fence_proven"] == (fence == "proven")
        assert shown["idsync_cache_window_seconds"] == pytest.approx(done.json["cache_window_seconds"], abs=0.001)
        assert shown["idsync_drill_refused_seconds"] == pytest.approx(done.json["refused_seconds"], abs=0.001)
        assert shown["idsync_drill_last_success_timestamp_seconds"] > 0
        assert here.run("doctor").code == 0
        assert here.audit()[-1].endswith(" drill.done")
        assert here.run("audit", "verify").code == 0
        here.assert_discreet(done.out, done.err)


def test_a_canary_stays_in_the_organization_until_it_is_deleted(tmp_path: Path) -> None:
    """Outside it would be 404, and its account would stay there for ever."""
    confined = {"routero": {"cache_time": "50ms", "organization_id": "org-default"}}
    with ground(tmp_path, confined, dialect="routero") as here:
        before = here.state()
        done = here.drill()
        assert (done.code, done.json["problems"]) == (0, []), done.err
        assert here.state() == before
        assert "/organization/member_delete" not in here.gateway.paths()


def test_a_deleted_key_that_lives_on_is_exit_code_5_and_an_alarm(tmp_path: Path) -> None:
    """Nothing is broadcast, nothing is fenced, and the other replicas remember the keys for a minute."""
    with ground(tmp_path, fence=False, broadcast="off", cache_ttl=60.0) as here:
        before = here.state()
        done = here.drill(timeout=1)
        assert done.code == 5
        told = [problem["what"] for problem in done.json["problems"] if problem["exit_code"] == 5]
        assert done.json["fence"]["verdict"] is None, "a fence may need the cache time, and nobody waited so long"
        for url in here.sandbox.replica_urls[1:]:
            assert [what.split(",")[0] for what in told if url in what] == [
                f"{url} still takes a key that was deleted",
                f"{url} still takes the key of somebody who left",
            ]
        assert (done.json["refused_seconds"], done.json["cache_window_seconds"]) == (None, None)
        assert here.state() == before
        assert [event["level"] for event in here.events("drill.failed", done)] == ["critical"]
        assert "idsync_drill_last_success_timestamp_seconds" not in here.metrics()
        assert here.run("doctor").code == 1
        printed = here.run("drill", "--timeout", "1")
        assert printed.code == 5
        assert f"FAILED {here.sandbox.replica_urls[2]} still takes the key of somebody who left" in printed.out
        here.assert_discreet(done.out, done.err, printed.out, printed.err)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ({"path": "/v1/models", "replica": 1, "status": 200, "body": "<html>"}, "takes a key that never existed"),
        ({"path": "/v1/models", "replica": 1, "drop": "before"}, "does not say that a key that never existed"),
        ({"path": "/v1/models", "replica": 1, "status": 401, "skip": 1}, "does not take a key that was made just now"),
        ({"path": "/user/new", "status": 503}, "503"),
        ({"path": "/key/generate", "status": 404}, "no such endpoint"),
        ({"path": "/key/generate", "truncate": True}, "broke off"),
        ({"path": "/user/update", "match": {"metadata": {"idsync_fence": "drill"}}, "status": 500}, "500"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_could_not_be_measured_is_exit_code_1_and_nothing_is_left(
    here: Ground, fault: dict[str, Any], says: str
) -> None:
    before = here.state()
    here.gateway.fault(**fault)
    done = here.drill(timeout=1)
    assert done.code == 1, done
    assert says in done.json["problems"][0]["what"]
    here.gateway.mend()
    assert here.state() == before
    here.assert_discreet(done.out, done.err)


def test_a_gateway_that_refuses_to_write_the_fence_has_none(here: Ground) -> None:
    here.gateway.fault(path="/user/update", match={"metadata": {"idsync_fence": "drill"}}, status=422)
    done = here.drill()
    assert (done.code, done.json["fence"]) == (0, {"verdict": "unsupported", "seconds": None})


def test_a_gateway_that_does_not_let_the_canary_go_is_told_and_tried_again(here: Ground) -> None:
    before, made = here.state(), len(here.gateway.calls("/user/new"))
    here.gateway.fault(path="/user/delete", lie=True)
    done = here.drill()
    assert done.code == 1
    assert "the canary is not removed yet" in done.json["problems"][0]["what"]
    again = here.drill()
    assert again.code == 5
    assert "still shows account" in again.json["problems"][0]["what"]
    assert len(here.gateway.calls("/user/new")) == made + 3, "no more canaries while one is there"
    here.gateway.mend()
    assert here.drill().code == 0
    assert here.state() == before


class TestThroughASource:
    def test_the_configured_one_is_drilled_with_its_token(self, here: Ground) -> None:
        before = here.state()
        done = here.drill("--source", "okta", "--token-file", str(here.token_file))
        assert (done.code, done.json["source"]) == (0, "okta"), done.err
        assert here.state() == before
        assert any(entry.startswith("okta/") and entry.endswith("departure.accepted") for entry in here.audit())
        here.assert_discreet(done.out, done.err)
        assert TOKEN not in done.out + done.err

    def test_a_token_it_does_not_take_is_exit_code_6(self, here: Ground, tmp_path: Path) -> None:
        wrong = tmp_path / "wrong"
        wrong.write_text("idsync_not-a-token-of-anybody-0123456789")
        before = here.state()
        done = here.drill("--source", "okta", "--token-file", str(wrong))
        assert done.code == 6
        assert "refused the token of a drill through source okta" in done.json["problems"][0]["what"]
        assert here.state() == before

    @pytest.mark.parametrize("words", [("--source", "okta"), ("--token-file", "x"), ("--timeout", "0")], ids=str)
    def test_half_an_order_is_wrong_usage(self, here: Ground, words: tuple[str, ...]) -> None:
        assert here.run("drill", *words).code == 2

    def test_one_that_is_not_configured_is_an_error(self, here: Ground) -> None:
        done = here.drill("--source", "entra", "--token-file", str(here.token_file))
        assert (done.code, "no source 'entra'" in done.err) == (1, True)

    def test_nobody_can_have_a_token_of_the_built_in_one(self, here: Ground) -> None:
        assert here.run("token", "new", "drill").code == 1


def test_only_this_machine_may_push_as_the_drill(tmp_path: Path) -> None:
    """Whoever had the token of a drill that is under way could use it from nowhere else, as the proxy tells it."""
    token = "idsync_token-of-a-drill-that-somebody-has-got-hold-of"
    store = store_of(url_of(tmp_path / "idsync.db"))
    store.open()
    digest = hashlib.sha256(token.encode()).hexdigest()
    row: dict[str, Any] = {"id": "drill-1", "kind": "source", "name": "drill", "scope": "scim", "digest": digest}
    store.write(lambda db: tokens.put_token(db, **row, at=1.0))
    store.close()
    with ground(tmp_path, {"server": {"trusted_proxies": ["127.0.0.1"]}}) as here:
        elsewhere = {"X-Forwarded-For": "203.0.113.9"}
        answers = [
            requested(f"{here.daemon.scim}/Users", {"Authorization": f"Bearer {token}", **more})
            for more in ({}, elsewhere)
        ]
    assert answers == [200, 401]


def requested(url: str, headers: dict[str, str]) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code


def test_a_drill_counts_nowhere(tmp_path: Path) -> None:
    """Neither while it is under way nor afterwards, whichever source it comes through; guards of one included."""
    with ground(tmp_path, {"guard": {"max_push_departures": 1}}) as here:
        source, directory = ("--source", "okta", "--token-file", str(here.token_file)), here.daemon.directory
        for login in ("leo", "ann"):
            directory.hire(login, "Data")
            here.gateway.wait_for_user(f"{login}@corp.example")
        here.gateway.fault(path="/key/block", hang=True)
        with here.drilling(*source) as process:
            here.gateway.wait_for_fault("/key/block")
            status, shown = here.run("status", "--json").json, here.metrics()
            assert (status["unverified_departures"], status["jobs"], status["waiting_jobs"]) == (0, [], 0)
            assert (shown["idsync_unverified_revocations"], shown["idsync_jobs"]) == (0, 0)
            assert here.run("verify").code == 0
            directory.leave("leo")
            until(
                lambda: here.run("status", "--json").json["time_to_revoke"]["count"] == 1, "leo's departure is verified"
            )
            assert directory.push("GET", "/Users?count=1")["totalResults"] == 3
            here.gateway.mend()
            assert process.wait(30) == 0
        assert directory.push("GET", "/Users?count=1")["totalResults"] == 2
        assert here.run("holds", "list", "--json").json == [], "one departure was pushed, not two"
        directory.leave("ann")
        assert here.drill(*source).code == 0, "what is held is ann's deletion, not the canary's"
        (hold,) = here.run("holds", "list", "--json").json
        assert [entry["user"] for entry in hold["people"]] == ["ann@corp.example"]
        shown = here.metrics()
        assert (shown["idsync_time_to_revoke_seconds_count"], shown["idsync_departures_total"]) == (1, 1)
        listed = here.run("departures", "--json").json
        assert {entry["user"] for entry in listed} == {"leo@corp.example", "ann@corp.example"}


def test_two_drills_are_never_under_way_at_once(tmp_path: Path) -> None:
    with ground(tmp_path) as here:
        here.gateway.fault(path="/user/new", delay=1.0, times=1)
        with here.drilling() as process:
            here.gateway.wait_for_fault("/user/new")
            second = here.drill()
            assert (second.code, "one at a time" in second.err) == (2, True)
            assert process.wait(30) == 0


def test_without_a_daemon_there_is_no_way_in(tmp_path: Path) -> None:
    with ground(tmp_path) as here:
        here.daemon.kill()
        until(lambda: here.replicas() == 0, "a database takes it for gone")
        done = here.drill()
        assert (done.code, "start `idsync serve`" in done.err) == (1, True)


class TestOnASchedule:
    def test_it_runs_at_the_start_and_not_again_before_it_is_due(self, tmp_path: Path) -> None:
        with ground(tmp_path, QUICK) as here:
            until(lambda: here.events("drill.done"), "the first drill")
            here.daemon.kill()
            here.daemon.start()
            until(lambda: len(here.events("pass.done")) == 2, "the first pass of the second life")
            assert here.drill().code == 0
            assert sum(entry == "idsync drill.done" for entry in here.audit()) == 1
            here.daemon.kill()
            _age_the_last_drill(here, 3601)
            here.daemon.start()
            until(lambda: sum(entry == "idsync drill.done" for entry in here.audit()) == 2, "the drill that was due")
            until(here.is_clear, "nothing is left")

    def test_one_that_fails_is_an_alarm(self, tmp_path: Path) -> None:
        changed = {**QUICK, "routero": {"replica_urls": ["http://127.0.0.1:9"]}}
        with ground(tmp_path, changed) as here:
            (failed,) = until(lambda: here.events("drill.failed"), "the alarm")
            assert failed["level"] == "critical"
            assert "http://127.0.0.1:9" in failed["problems"][0]


def _age_the_last_drill(here: Ground, seconds: float) -> None:
    store = store_of(url_of(here.folder / "idsync.db"))
    store.open()
    try:
        last = facts.get(store.reader(), "drill:last")
        store.write(lambda db: facts.put(db, "drill:last", {**last, "at": last["at"] - seconds}, last["at"]))
    finally:
        store.close()
