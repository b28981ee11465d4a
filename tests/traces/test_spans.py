"""What a collector is told of a request, a departure and a poll, and that a bad collector disturbs nobody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from polling.test_idps import PEOPLE, OktaSite
from support.company import Company, founded
from support.daemon import Daemon
from support.directory import mail
from support.endpoint import Client
from support.fixtures import Opener
from support.gateway import Gateway
from support.home import Home
from support.settings import ADMIN_KEY, TOKEN, write_settings
from support.waiting import until

from idsync.errors import IncompleteSource, Superseded

from .collector import Collector, Span

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="an extra; make traces installs it and runs these")

from idsync.otlp import OtlpTracer, TraceSettings

SECRET = "collector-secret-4711"
THEIR_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
DESTROYING = {"gateway /user/update", "gateway /key/block", "gateway /key/delete", "gateway /team/member_delete"}


@pytest.fixture
def settings(tmp_path: Path, gateway: Gateway, collector: Collector) -> Path:
    (tmp_path / "headers").write_text(f"Authorization: Bearer {SECRET}\nX-Tenant: one\n")
    told = {"otlp_endpoint": collector.url, "headers_file": str(tmp_path / "headers")}
    return write_settings(tmp_path, gateway.sandbox.url, routero={"timeout": "2s"}, traces=told)


@pytest.fixture
def company(settings: Path, gateway: Gateway, collector: Collector) -> Company:
    """Leo and Ann, hired by an idsync before the one that is watched."""
    with Home(settings) as home:
        found = founded(gateway, home)
    collector.bodies.clear()
    return found


def test_a_leave_is_told_from_the_push_to_the_proof_and_of_nobody(
    settings: Path, company: Company, gateway: Gateway, collector: Collector
) -> None:
    with Daemon(settings) as daemon:
        client = Client(int(daemon.scim.split(":")[2].split("/")[0]), TOKEN)
        user_id = daemon.directory.find("leo")
        off = {"op": "replace", "path": "active", "value": False}
        assert client.patch(f"/Users/{user_id}", off, traceparent=f"00-{THEIR_TRACE}-00f067aa0ba902b7-01").status == 200
        assert Client(client.port, "idsync_nobody").get(f"/Users/{user_id}").status == 401
        assert client.send("POST", "/Users/.search", {}).status == 200
        assert client.get("/leo@corp.example").status == 404
        until(lambda: company.gateway.exists(company.leo.keys[0]) is False, "the keys are deleted")
        until(lambda: collector.spans("departure"), "the departure is told", told=daemon.said)
        daemon.terminate()
        assert daemon.exit_code() == 0
        daemon.assert_discreet(SECRET)
    company.assert_leo_is_gone()
    requests = {
        (span.name, span.attributes["http.response.status_code"]): span for span in collector.spans() if span.kind == 2
    }
    assert requests.keys() == {
        ("GET /scim/v2/Users", 200),
        ("PATCH /scim/v2/Users/{id}", 200),
        ("GET /scim/v2/Users/{id}", 401),
        ("POST /scim/v2/Users/.search", 200),
        ("GET /scim/v2/{other}", 404),
    }
    assert requests["PATCH /scim/v2/Users/{id}", 200].attributes["idsync.source"] == "okta"
    assert "idsync.source" not in requests["GET /scim/v2/Users/{id}", 401].attributes
    [departure] = collector.spans("departure")
    assert (departure.attributes.pop("idsync.departure.id"), departure.attributes) == (
        departure_id(settings),
        {
            "idsync.departure.evidence": "scim_inactive",
            "idsync.departure.drill": False,
            "idsync.departure.state": "verified",
            "idsync.departure.fence": "assumed",
        },
    )
    assert departure.events == ["fenced", "blocked", "deleted", "verified"]
    assert_within(departure, collector.spans("gateway"))
    assert {span.name for span in collector.spans("gateway")} >= DESTROYING
    assert {span.trace.hex() for span in collector.spans()}.isdisjoint({THEIR_TRACE})
    assert set(collector.paths) == {"/v1/traces"}
    assert collector.headers[-1]["authorization"] == f"Bearer {SECRET}"
    assert collector.headers[-1]["x-tenant"] == "one"
    assert_of_nobody(collector, company, user_id)


def departure_id(settings: Path) -> str:
    with Home(settings, working=False) as home:
        return home.departure("leo").id


def assert_within(parent: Span, children: list[Span]) -> None:
    """Every call is a part of this span, and told as a client's."""
    assert {(child.trace, child.parent, child.kind) for child in children} == {(parent.trace, parent.id, 3)}
    assert parent.parent == b""


def assert_of_nobody(collector: Collector, company: Company, user_id: str) -> None:
    known = [mail("leo"), "corp.example", "leo", user_id, company.leo.user_id, *(key.id for key in company.leo.keys)]
    told = b"".join(collector.bodies).lower()
    for word in (*known, "Data", "lab", ADMIN_KEY, TOKEN, SECRET, gateway_port(company), *company.all_secrets):
        assert word.lower().encode() not in told, word


def gateway_port(company: Company) -> str:
    return company.gateway.url.removeprefix("http://")


@pytest.mark.parametrize("trouble", ["refuses", "fails", "redirects", "hangs"])
def test_a_bad_collector_disturbs_nobody(settings: Path, company: Company, collector: Collector, trouble: str) -> None:
    collector.status = {"fails": 400, "redirects": 302}.get(trouble, 200)
    collector.hang = trouble == "hangs"
    if trouble == "refuses":
        collector.__exit__(None, None, None)
    with Daemon(settings) as daemon:
        daemon.directory.leave("leo")
        until(lambda: 'idsync_departures_total{evidence="scim_inactive"} 1.0' in metrics(daemon), "it is verified")
        if trouble == "hangs":
            until(lambda: collector.bodies, "the collector has been called")
        else:
            until(lambda: lost(daemon), "the spans are counted as lost")
            daemon.wait_for_event("traces.lost")
        daemon.terminate()
        assert daemon.exit_code() == 0
        daemon.assert_discreet(SECRET)
        said = [event["event"] for event in daemon.events()]
    assert "daemon.stopped" in said
    assert ("traces.cut_off" in said) is (trouble == "hangs")
    assert said.count("traces.lost") <= 1, "said once"
    assert "opentelemetry" not in daemon.said(), "in our words alone"
    company.assert_leo_is_gone()


def metrics(daemon: Daemon) -> str:
    with urlopen(f"{daemon.operations}/metrics") as answer:
        text: str = answer.read().decode()
    return text


def lost(daemon: Daemon) -> float:
    lines = [
        line for line in metrics(daemon).splitlines() if line.startswith('idsync_trace_spans_total{result="lost"}')
    ]
    return sum(float(line.split()[1]) for line in lines)


def test_polls_are_told_with_how_they_ended(
    gateway: Gateway, opened: Opener, collector: Collector, tmp_path: Path
) -> None:
    site = OktaSite(gateway.sandbox)
    site.found()
    told = {"otlp_endpoint": collector.url}
    home = opened(scim={"sources": []}, sources={"okta": [site.table(tmp_path)]}, hasty=True, traces=told)
    home.poll("poll")
    site.break_with(site.pages[0], status=503)
    with suppress(IncompleteSource):
        home.poll("poll")
    opened.close()
    polls = collector.spans("poll")
    assert [(span.attributes["idsync.source"], span.attributes["idsync.poll.kind"]) for span in polls] == [
        ("poll", "full")
    ] * 2
    assert sorted((span.attributes["idsync.poll.result"] == "ok", span.failed) for span in polls) == [
        (False, True),
        (True, False),
    ]
    assert all(name not in body.decode("latin-1") for body in collector.bodies for name in PEOPLE)


Act = Callable[[OtlpTracer], object]


def _fails(error: BaseException) -> Act:
    def act(tracer: OtlpTracer) -> None:
        with suppress(type(error)), tracer.departure("d1", "scim_delete", drill=False):
            raise error

    return act


def _in_a_departure(tracer: OtlpTracer) -> None:
    with tracer.departure("d1", "scim_delete", drill=True) as departing:
        departing.reached("fenced", time.time(), 0.5)
        for status in (200, 404, 429, 502, "error"):
            tracer.gateway_call("/key/info", status, 0.25)


@pytest.mark.parametrize(
    ("act", "sample", "told"),
    [
        (_fails(RuntimeError("leo@corp.example")), 1.0, [("departure", "RuntimeError", True)]),
        (_fails(Superseded()), 1.0, [("departure", "Superseded", False)]),
        (_fails(asyncio.CancelledError()), 1.0, [("departure", "CancelledError", False)]),
        (_in_a_departure, 1.0, [
            ("gateway /key/info", None, False),
            ("gateway /key/info", None, False),
            ("gateway /key/info", None, True),
            ("gateway /key/info", None, True),
            ("gateway /key/info", "no answer", True),
            ("departure", None, False),
        ]),
        (_in_a_departure, 1e-18, []),
        (lambda tracer: tracer.gateway_call("/user/list", 200, 0.1), 1.0, []),
        (lambda tracer: tracer.scim_request("GET", "/scim/v2/Users", 500, "okta", 1.0), 1.0, [("GET /scim/v2/Users", None, True)]),
    ],
)  # fmt: skip
def test_what_is_told(collector: Collector, act: Act, sample: float, told: list[Any]) -> None:
    counted: list[tuple[str, int]] = []

    async def live() -> None:
        tracer = OtlpTracer(TraceSettings(collector.url, dict, sample), lambda *what: counted.append(what))
        act(tracer)
        await tracer.close()

    asyncio.run(live())
    assert [(span.name, span.attributes.get("error.type"), span.failed) for span in collector.spans()] == told
    assert b"corp.example" not in b"".join(collector.bodies)
    assert counted == ([("sent", len(told))] if told else [])
    calls = [span.seconds for span in collector.spans("gateway")]
    assert calls == pytest.approx([0.25] * len(calls))
