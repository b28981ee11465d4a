"""How Graph is asked: at its pace, with low priority, in batches whose parts each have an answer of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web

from idsync.errors import IncompleteSource, SourceRefused, SourceUnreachable
from idsync.model import Observation
from sources.entra import Answers, Entra, again, entra, reply

ANN = {"id": "u-1", "userPrincipalName": "ann@example.com", "accountEnabled": True}
NOT_FOUND = {"error": {"code": "Request_ResourceNotFound", "message": "..."}}


def in_turn(*answers: web.Response) -> Answers:
    """Give each answer once, the last one for ever."""
    left: Iterator[web.Response] = iter(answers)
    last = [answers[-1]]

    def answer(_request: web.Request) -> web.Response:
        return again(next(left, last[0]))

    return answer


def looked(graph: Answers, **changed: Any) -> tuple[Entra, Any]:
    """Look somebody up; return the servers, and what became of it."""

    async def ask() -> tuple[Entra, Any]:
        async with entra(graph) as servers, servers.source(**changed) as source:
            try:
                return servers, await source.look_up("u-1", ())
            except IncompleteSource as trouble:
                return servers, trouble

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("status", "headers", "slept"),
    [
        (429, {"Retry_After": "17"}, 17.5),
        (503, {"Retry_After": "17"}, 17.5),
        (504, {"Retry_After": "0"}, 1.5),
        (429, {"Retry_After": "Tue, 24 Nov 2026 10:00:40 GMT", "Date": "Tue, 24 Nov 2026 10:00:10 GMT"}, 30.5),
        (429, {}, 2.5),
        (500, {}, 2.5),
        (502, {"Retry_After": "soon"}, 2.5),
    ],
)
def test_later_means_later(status: int, headers: dict[str, str], slept: float) -> None:
    servers, look = looked(in_turn(reply({}, status, **headers), reply(ANN)))
    assert look.user.observation is Observation.PRESENT
    assert servers.slept == [slept]
    assert look.user.at == servers.clock.now()


def test_ten_minutes_of_throttling_end_well() -> None:
    """One request for every time that Graph named, and then the answer."""
    servers, look = looked(in_turn(*[reply({}, 429, Retry_After="30")] * 20, reply(ANN)))
    assert look.user.observation is Observation.PRESENT
    assert sum(servers.slept) >= 600
    assert len(servers.graph_asked()) == 21


@pytest.mark.parametrize(
    ("answer", "asked"),
    [
        (reply({}, 500), 4),
        (reply(b"<html>", 502), 4),
        (reply({}, 429, Retry_After="3600"), 1),
        (reply({}, 429, Retry_After="300"), 3),
    ],
)
def test_patience_ends(answer: web.Response, asked: int) -> None:
    servers, trouble = looked(in_turn(answer))
    assert isinstance(trouble, SourceUnreachable)
    assert trouble.status == answer.status
    assert len(servers.graph_asked()) == asked


async def cut(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"id": "u-1", ')
    assert request.transport is not None
    request.transport.close()
    return response


async def stalled(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b'{"id": "u-1", ')
    await asyncio.Event().wait()
    return response


@pytest.mark.parametrize(
    ("graph", "kind"),
    [
        (cut, SourceUnreachable),
        (stalled, SourceUnreachable),
        (in_turn(reply(b'{"id": "u-1", ')), IncompleteSource),
        (in_turn(reply(b"<html>")), IncompleteSource),
        (in_turn(reply(b"[" * 100_000)), IncompleteSource),
        (in_turn(reply(b'{"id": "u-1", "accountEnabled": true, "accountEnabled": false}')), IncompleteSource),
        (in_turn(reply(ANN | {"id": "u-2"})), IncompleteSource),
        (in_turn(reply([])), IncompleteSource),
        (in_turn(reply({}, 302, Location="http://127.0.0.1:9/")), IncompleteSource),
        (in_turn(reply(NOT_FOUND, 403)), SourceRefused),
        (in_turn(reply({}, 400)), IncompleteSource),
    ],
)
def test_no_whole_answer_is_no_look(graph: Answers, kind: type[Exception]) -> None:
    _, trouble = looked(graph, timeout=0.3)
    assert type(trouble) is kind


def test_every_request_asks_for_low_priority() -> None:
    seen: list[str] = []

    def answer(request: web.Request) -> web.Response:
        seen.append(request.headers["x-ms-throttle-priority"])
        return reply(ANN)

    looked(answer)
    assert seen == ["low"]


def many(headers: dict[str, Any], looks: int) -> Entra:
    async def ask() -> Entra:
        answer = in_turn(reply(ANN, **headers))
        async with entra(answer) as servers, servers.source() as source:
            for _ in range(looks):
                await source.look_up("u-1", ())
            return servers

    return asyncio.run(ask())


def test_half_of_the_tenants_units_are_left_to_others() -> None:
    """A small tenant has 3,500 in 10 s: 17 requests of 100 units pass at once, then the window has to move on."""
    assert many({"x_ms_resource_unit": "100"}, 17).slept == []
    assert many({"x_ms_resource_unit": "100"}, 19).slept == [10.0]
    assert many({"x_ms_resource_unit": "strange"}, 19).slept == []


def test_a_tenant_that_is_half_used_is_left_alone() -> None:
    assert many({"x_ms_throttle_limit_percentage": "0.8"}, 2).slept == [10.5]
    assert many({"x_ms_throttle_limit_percentage": "0.4"}, 2).slept == []


def test_who_was_told_to_wait_makes_everybody_wait() -> None:
    """Several at once: while Graph said later, one of them asks, after the time that was named; the rest follow it."""
    refusals = 3
    told: list[float] = []
    events: list[tuple[str, int]] = []

    async def ask() -> Entra:
        there = asyncio.Event()

        async def answer(_request: web.Request) -> web.Response:
            told.append(servers.clock.now())
            number = len(told)
            events.append(("asked", number))
            if number == refusals:
                there.set()
            await there.wait()
            await asyncio.sleep(0.05)
            events.append(("answered", number))
            return reply(ANN) if number > refusals else reply({}, 429, Retry_After="30")

        async with entra(answer) as servers, servers.source(concurrency=refusals) as source:
            await asyncio.gather(*(source.look_up("u-1", ()) for _ in range(9)))
            return servers

    servers = asyncio.run(ask())
    assert len(told) == 9 + refusals
    assert told[refusals] - told[0] >= 30
    assert 1 <= len(servers.slept) <= refusals
    assert events.index(("answered", refusals + 1)) < events.index(("asked", refusals + 2))


def batch_of(bend: Any) -> Answers:
    """Serve the groups g-1, g-2, g-3 singly and in batches; `bend` changes the answers in a batch."""

    def single(path: str) -> tuple[int, Any]:
        if path.startswith("/users/u-1?"):
            return 200, ANN
        if path.startswith("/users/u-1/checkMemberGroups"):
            return 200, {"value": ["g-2"]}
        return 200, {"id": path.split("/")[2].split("?")[0], "displayName": "A group", "visibility": None}

    async def answer(request: web.Request) -> web.StreamResponse:
        if not request.path.endswith("$batch"):
            status, body = single(request.path_qs.removeprefix("/v1.0"))
            return reply(body, status)
        parts = (await request.json())["requests"]
        assert len(parts) <= 20
        made = [(part["id"], *single(part["url"])) for part in parts]
        return reply({"responses": bend([{"id": n, "status": s, "headers": {}, "body": b} for n, s, b in made])})

    return answer


@pytest.mark.parametrize(
    "bend",
    [
        lambda rows: rows,
        lambda rows: rows[::-1],
        lambda rows: rows[:1],
        lambda rows: [],
        lambda rows: [row | {"status": 429, "headers": {"Retry-After": "3"}, "body": {}} for row in rows],
        lambda rows: [row | {"status": 503} for row in rows[:2]] + rows[2:],
        lambda rows: [row | {"status": "200"} for row in rows],
        lambda rows: [row | {"id": "77"} for row in rows] + ["strange", {}],
    ],
)
def test_each_part_of_a_batch_is_checked(bend: Any) -> None:
    """What a batch did not answer is asked for again, alone; nothing is taken for a no."""

    async def ask() -> None:
        async with entra(batch_of(bend)) as servers, servers.source() as source:
            look = await source.look_up("u-1", ["g-1", "g-2", "g-3"])
            assert look.groups == frozenset({"g-2"})

    asyncio.run(ask())


@pytest.mark.parametrize(
    "bend",
    [
        lambda rows: None,
        lambda rows: [row | {"status": 403} for row in rows],
        lambda rows: [row | {"status": 404, "body": {}} for row in rows],
        lambda rows: [row | {"body": None} for row in rows],
        lambda rows: [row | {"body": {"id": "g-9", "displayName": "Another"}} for row in rows],
    ],
)
def test_a_batch_that_is_none(bend: Any) -> None:
    async def ask() -> None:
        async with entra(batch_of(bend)) as servers, servers.source() as source:
            with pytest.raises(IncompleteSource):
                await source.look_up("u-1", ["g-1", "g-2", "g-3"])

    asyncio.run(ask())


def test_what_is_counted() -> None:
    servers, _ = looked(in_turn(reply({}, 500), reply(ANN)))
    assert [*servers.seen] == [("token", "200"), ("token", "200"), ("users/{id}", "500"), ("users/{id}", "200")]
