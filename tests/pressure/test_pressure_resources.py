"""Bodies, heads and connections that are too large, too slow or never end; one greedy client; a store that is locked."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.daemon import Daemon
from support.editor import locked
from support.endpoint import PREFIX, USER, Client, Got, request, serving
from support.gateway import Gateway
from support.settings import TOKEN, store_url, write_settings
from support.waiting import until

from idsync.store.db import Store
from idsync.web.auth import ScimSource

from .crowd import CLIENTS, at_once
from .program import Program, write_site
from .wire import Wire, half_open

MIB = 1024 * 1024
BLOCK = 64 * 1024
LITTLE = 16
"""MiB by which the memory may grow for something that is refused."""


def name() -> str:
    return f"load-{uuid.uuid4().hex[:12]}@example.com"


def assert_serves(program: Program) -> None:
    """Probes, a read and a write, of every source."""
    assert program.page("/livez") == (200, "ok\n")
    assert program.page("/readyz") == (200, "ok\n")
    for source in ("okta", "entra"):
        client = program.client(source)
        user = client.user(name())
        assert client.patch(f"/Users/{user['id']}", {"op": "replace", "path": "active", "value": False}).status == 200
        assert client.get("/Users?count=1").status == 200


# -- H1, H2: bodies and heads -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["declared", "chunked", "declared, of a stranger", "chunked, of a stranger"])
def test_sixty_four_megabytes_are_refused_and_not_kept(program: Program, okta: Client, how: str) -> None:
    before = program.forget_peak()
    client = Client(okta.port, "nobody") if "stranger" in how else okta
    with Wire(program.port) as wire:
        if how.startswith("declared"):
            wire.write(client.head("POST", "/Users", f"Content-Length: {64 * MIB}"))
            piece, end = b" " * BLOCK, b""
        else:
            wire.write(client.head("POST", "/Users", "Transfer-Encoding: chunked"))
            piece, end = b"%x\r\n%s\r\n" % (BLOCK, b" " * BLOCK), b"0\r\n\r\n"
        for _ in range(64 * MIB // BLOCK):
            wire.write(piece)
        wire.write(end)
        assert wire.read().status == (401 if "stranger" in how else 413)
    assert program.memory() - before <= LITTLE
    assert_serves(program)


ENDLESS = {
    "a line": (b"GET /scim/v2/Users HTTP/1.1\r\nHost: x\r\nX-Long: ", b"a" * BLOCK),
    "lines": (b"GET /scim/v2/Users HTTP/1.1\r\nHost: x\r\n", b"a: b\r\n" * (BLOCK // 6)),
    "the name of a line": (b"GET /scim/v2/Users HTTP/1.1\r\nHost: x\r\n", b"a" * BLOCK),
    "a path": (b"GET /scim/v2/Users/", b"a" * BLOCK),
    "trailers": (b"POST /scim/v2/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"a: b\r\n" * (BLOCK // 6)),
}


@pytest.mark.parametrize("what", ENDLESS)
def test_a_head_without_an_end_is_cut_off(program: Program, what: str) -> None:
    """Of anybody: nobody has a token before their head is complete. Sixteen megabytes stand for no end."""
    before = program.forget_peak()
    start, piece = ENDLESS[what]
    sent = 0
    with socket.create_connection(("127.0.0.1", program.port), timeout=20) as line:
        line.sendall(start)
        with contextlib.suppress(ConnectionError):
            while sent < 16 * MIB:
                line.sendall(piece)
                sent += len(piece)
        assert program.memory() - before <= LITTLE
    assert sent < 16 * MIB, "it was read to the end"
    assert_serves(program)


@pytest.mark.parametrize("length", ["Content-Length: 1000", "Transfer-Encoding: chunked"])
def test_a_body_that_trickles_is_given_up(tmp_path: Path, length: str) -> None:
    """Bytes come all the time, and the end would be far away."""
    with serving(tmp_path, ScimSource("slow"), body_seconds=0.5) as running, Wire(running.port) as wire:
        wire.write(running.clients["slow"].head("POST", "/Users", length))
        given_up = threading.Event()
        sent = 0

        def trickle() -> None:
            nonlocal sent
            with contextlib.suppress(OSError):
                while sent < 500 and not given_up.wait(0.02):
                    wire.write(b" " if length.startswith("Content") else b"1\r\n \r\n")
                    sent += 1

        feeder = threading.Thread(target=trickle)
        feeder.start()
        got = wire.read()
        given_up.set()
        feeder.join()
        assert (got.status, json.loads(got.body)["status"]) == (408, "408")
        assert 1 < sent < 500


# -- H3: connections ----------------------------------------------------------------------------------------------------------


def test_hundreds_of_half_open_connections_keep_nobody_out(program: Program, okta: Client) -> None:
    """Silent ones, half heads, half bodies with a token and without one; all of them are given back afterwards."""
    before = program.open_files()
    half = okta.head("POST", "/Users", "Content-Length: 1000")
    stranger = half.replace(okta.token.encode(), b"nobody")
    starts = [b""] * 130 + [half[:60]] * 130 + [stranger + b"{"] * 80 + [half + b"{"] * 60
    with half_open(program.port, starts):
        until(lambda: program.open_files() >= before + len(starts), "all of them are accepted")
        assert_serves(program)
        with Wire(program.port) as wire:
            assert wire.ask(request("GET", f"{PREFIX}/Users")).status == 401
    until(lambda: program.open_files() <= before + 5, "the connections are given back", told=program.open_files)


def test_a_source_whose_bodies_do_not_come_is_still_served(program: Program, okta: Client) -> None:
    """A network that swallows what follows a head: the pushes that do arrive are not kept waiting for it."""
    with half_open(program.port, [okta.head("POST", "/Users", "Content-Length: 1000") + b"{"] * 200):
        assert_serves(program)


GONE = json.dumps({"Operations": [{"op": "replace", "path": "title", "value": "gone"}]}).encode()
UNMADE, MADE = ('W/"1"', 'W/"1"', None), ('W/"2"', 'W/"2"', "gone")


def change(client: Client, user: Any, *length: str) -> bytes:
    """Write a request whose body declares this length, its own if none is given."""
    return client.head("PATCH", f"/Users/{user['id']}", *(length or (f"Content-Length: {len(GONE)}",))) + GONE


def states(client: Client, users: Sequence[Any]) -> set[tuple[str, str, str | None]]:
    """Return in which states these users are: the version told in the head, the one in the body, and the title."""
    found = [client.get(f"/Users/{user['id']}") for user in users]
    return {(got.headers["etag"], got.json["meta"]["version"], got.json.get("title")) for got in found}


def hang_up(line: socket.socket, *, reset: bool) -> None:
    if reset:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    line.close()


@contextlib.contextmanager
def slow_disk(store: Store) -> Iterator[None]:
    """Nothing is written before the block ends."""
    ready = threading.Event()
    store.submit(lambda db: ready.wait(60), urgent=True)  # a change that comes later does not overtake it
    try:
        yield
    finally:
        ready.set()


def test_clients_that_hang_up_leave_no_trace(program: Program, okta: Client) -> None:
    """They send a change and are gone before the answer: it is made or not made, as a whole, and nobody else notices."""
    before = program.open_files()
    users = [okta.user(name()) for _ in range(40)]
    for number, user in enumerate(users):
        line = socket.create_connection(("127.0.0.1", program.port), timeout=20)
        line.sendall(change(okta, user))
        hang_up(line, reset=number % 2 == 1)
    until(lambda: program.open_files() <= before + 5, "the connections are given back", told=program.open_files)
    assert states(okta, users) <= {MADE, UNMADE}
    assert_serves(program)


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_a_change_that_was_taken_up_is_made_though_its_client_hangs_up(tmp_path: Path, reset: bool) -> None:
    """Each client is gone while its change waits for the disk; an answer to whoever came later says it was taken up."""
    with serving(tmp_path, ScimSource("okta")) as running:
        okta = running.clients["okta"]
        users = [okta.user(name()) for _ in range(CLIENTS)]
        with slow_disk(running.store):
            with half_open(running.port, [change(okta, user) for user in users]) as lines:
                assert states(okta, users) == {UNMADE}
                for line in lines:
                    hang_up(line, reset=reset)
            assert states(okta, users) == {UNMADE}, "they have gone before it is made"
        until(lambda: states(okta, users) == {MADE}, "every change is made", told=lambda: states(okta, users))


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("length", [f"Content-Length: {len(GONE) + 1}", "Transfer-Encoding: chunked"])
def test_a_change_whose_body_was_not_complete_is_never_made(
    program: Program, okta: Client, length: str, reset: bool
) -> None:
    """All of the JSON has come, its end has not: one more byte was promised, or the last chunk."""
    before = program.open_files()
    users = [okta.user(name()) for _ in range(40)]
    starts = [change(okta, user, length) for user in users]
    if "chunked" in length:
        starts = [start.removesuffix(GONE) + b"%x\r\n%s\r\n" % (len(GONE), GONE) for start in starts]
    with half_open(program.port, starts) as lines:
        assert states(okta, users) == {UNMADE}
        for line in lines:
            hang_up(line, reset=reset)
    until(lambda: program.open_files() <= before + 5, "the connections are given back", told=program.open_files)
    assert_serves(program)
    assert states(okta, users) == {UNMADE}, "and what is written afterwards does not bring it"


def test_clients_that_do_not_read_are_not_worked_for(program: Program, entra: Client) -> None:
    """Each has asked for fifty pages; no more are made than fit into its line."""
    for _ in range(60):
        entra.user(name(), title="x" * 40_000)
    label = 'idsync_scim_requests_total{code="200",method="GET",resource="Users"}'
    before, files = program.counted().get(label, 0), program.open_files()
    asked = entra.head("GET", "/Users?count=200") * 50
    with half_open(program.port, [asked] * 20) as lines:
        until(lambda: program.counted()[label] >= before + len(lines), "the first page of each is made")
        assert_serves(program)
        assert program.counted()[label] <= before + 3 * len(lines) + 2
    until(lambda: program.open_files() <= files + 5, "the connections are given back", told=program.open_files)


# -- H5: bombs -------------------------------------------------------------------------------------------------------------------


def many(piece: bytes, start: bytes, end: bytes) -> bytes:
    """Repeat a piece until the body is as large as one may be."""
    return start + b",".join([piece] * ((MIB - len(start) - len(end)) // (len(piece) + 1))) + end


BOMBS = {
    "lists in lists": b"[" * (MIB - 1),
    "objects in objects": b'{"a":' * (MIB // 6),
    "closed lists in lists": b"[" * (MIB // 2) + b"]" * (MIB // 2),
    "names": b"{" + b",".join(b'"%x":1' % number for number in range(90_000)) + b"}",
    "equal names": many(b'"a":1', b"{", b"}"),
    "numbers": many(b"1", b'{"x":[', b"]}"),
    "large numbers": many(b"1e308", b'{"x":[', b"]}"),
    "digits": b'{"x":' + b"9" * (MIB - 10) + b"}",
    "many digits": many(b"9" * 4000, b'{"x":[', b"]}"),
    "a long text": b'{"x":"' + b"a" * (MIB - 10) + b'"}',
    "a long name": b'{"' + b"a" * (MIB - 10) + b'":1}',
    "escapes": b'{"x":"' + b"\\ud83d\\ude00" * (MIB // 12 - 1) + b'"}',
    "an open text": b'"' * (MIB - 1),
    "blanks": b" " * MIB,
    "empty objects": many(b"{}", b'{"Operations":[', b"]}"),
    "schemas": many(b'"u"', b'{"schemas":[', b"]}"),
    "operations": many(b'{"op":"x"}', b'{"Operations":[', b"]}"),
    "zipped": bytes.fromhex("1f8b08000000000002ff") + b"\x00" * BLOCK,
}


def test_bombs_are_refused_and_leave_nothing_behind(program: Program, okta: Client) -> None:
    user = okta.user(name())
    before = program.memory("VmRSS")
    for what, bomb in BOMBS.items():
        assert len(bomb) <= MIB, what
        for method, path in (("POST", "/Users"), ("PATCH", f"/Users/{user['id']}"), ("POST", "/Bulk")):
            got = okta.send(method, path, bomb)
            assert got.status in (400, 413), (what, method, path, got.raw[:200])
            assert len(got.raw) < 1000, (what, "the answer repeats the question")
    assert program.memory("VmRSS") - before <= 8 * LITTLE
    assert okta.get(f"/Users/{user['id']}").json == user
    assert_serves(program)


@pytest.mark.parametrize("entry", [{"value": "x"}, "x"], ids=["objects", "texts"])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_more_values_than_one_request_may_name(okta: Client, method: str, entry: Any) -> None:
    """They are counted before they are judged: a quarter of a million wrong ones would cost seconds."""
    user, values = okta.user(name()), [entry] * 10_001
    operation = {"op": "add", "path": "emails", "value": values}
    body = {"schemas": [USER], "userName": name(), "emails": values}
    path = "/Users" if method == "POST" else f"/Users/{user['id']}"
    got = okta.send(method, path, {"Operations": [operation]} if method == "PATCH" else body)
    assert got.status == 413, got.raw[:200]


# -- one greedy client ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def greedy(tmp_path: Path) -> Iterator[Program]:
    """A daemon of its own: it is killed whatever it is still at."""
    with Daemon(write_site(tmp_path, "http://127.0.0.1:9")) as daemon:
        yield Program(daemon)


def answered(line: socket.socket) -> bool:
    try:
        return bool(line.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


def test_an_expensive_request_keeps_no_leaver_waiting(greedy: Program) -> None:
    """A thousand operations, each with a filter over thousands of values, is one request of less than a megabyte."""
    okta, entra = greedy.client("okta"), greedy.client("entra")
    values = [{"value": f"m{number:04}@example.com"} for number in range(3000)]
    crowded = okta.user(name(), emails=values)
    leaver = entra.user(name())
    operations = [
        {"op": "replace", "path": f'emails[value eq "{one["value"]}"].display', "value": "x"} for one in values[:1000]
    ]
    body = json.dumps({"Operations": operations}).encode()
    before = greedy.work()
    with socket.create_connection(("127.0.0.1", greedy.port), timeout=20) as line:
        line.sendall(okta.head("PATCH", f"/Users/{crowded['id']}", f"Content-Length: {len(body)}") + body)
        line.setblocking(False)
        until(lambda: greedy.work() > before + 1 or answered(line), "it is under way or was refused")
        try:
            got = entra.patch(f"/Users/{leaver['id']}", {"op": "replace", "path": "active", "value": False})
        except TimeoutError:
            pytest.fail("a leaver of another source waits for one request of this one")
        assert (got.status, got.json["active"]) == (200, False)


# -- D1: the store is in somebody else's hands ------------------------------------------------------------------------------------------


def test_a_locked_store_is_503_loses_nothing_and_recovers_alone(tmp_path: Path, gateway: Gateway) -> None:
    """Every push is refused when the wait for the lock is over, not one after the other; reads go on."""
    with Daemon(write_settings(tmp_path, gateway.sandbox.url)) as daemon:
        program = Program(daemon)
        okta = Client(program.port, TOKEN)
        holders = [gateway.account(f"lock{number:02}", None) for number in range(CLIENTS)]
        users = [okta.user(holder.email, emails=[{"value": holder.email, "primary": True}]) for holder in holders]

        def leave(number: int) -> Got | None:
            operation = {"op": "replace", "path": "active", "value": False}
            try:
                return okta.patch(f"/Users/{users[number]['id']}", operation)
            except TimeoutError:
                return None

        with locked(store_url(daemon.settings)):
            reading = threading.Thread(target=lambda: seen.append(okta.get("/Users?count=200").json["totalResults"]))
            seen: list[int] = []
            reading.start()
            answers = at_once(leave)
            reading.join()
            shown = [okta.get(f"/Users/{user['id']}").json["active"] for user in users]
            probes = (program.page("/livez")[0], program.page("/readyz")[0])
        unanswered = answers.count(None)
        assert unanswered == 0, f"{unanswered} of {len(answers)} pushes had no answer after 20 s"
        assert all(got is not None and got.is_scim_error(503) and got.headers["retry-after"] for got in answers)
        assert (seen, set(shown), probes) == ([CLIENTS], {True}, (200, 200))
        assert {got.status for got in at_once(leave) if got is not None} == {200}
        for holder in holders:
            gateway.wait_until_ended(holder.user_id)
        daemon.assert_discreet()
