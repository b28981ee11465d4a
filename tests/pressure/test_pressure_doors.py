"""No path, method or credential gets past the door: 401 before anything is read, the same bytes whoever knocks."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from support.daemon import Daemon, idsync
from support.endpoint import PREFIX, USER, Client, digest, request
from support.gateway import Gateway
from support.settings import TOKEN, write_settings
from support.stores import SHARED
from support.waiting import until

from idsync.store import tokens

from .program import Program, secret_of
from .wire import Raw, Wire

KNOWN = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "SEARCH", "PURGE", "M-SEARCH"]
"""Methods the parser lets through; the others never become a request."""
NO_METHODS = ["get", "Get", "FOO", "GETT", "POST\t", "G\x00T", "-", "DELETE/Users", "PRI"]
ROUTES = [
    "",
    "/",
    "/Users",
    "/Users/ID",
    "/Groups",
    "/Groups/x",
    "/Bulk",
    "/Me",
    "/.search",
    "/Users/.search",
    "/Schemas",
    f"/Schemas/{USER}",
    "/ResourceTypes",
    "/ResourceTypes/User",
    "/ServiceProviderConfig",
    "/nothing",
    "/Users/ID/emails",
    "/Users?filter=userName%20pr",
]
LIVE = secret_of("okta")
REFUSED: dict[str, list[str | bytes]] = {
    "no header": [],
    "empty": ["Authorization:"],
    "no token": ["Authorization: Bearer"],
    "blank token": ["Authorization: Bearer    "],
    "wrong": ["Authorization: Bearer wrong"],
    "almost": [f"Authorization: Bearer {LIVE[:-1]}"],
    "with more": [f"Authorization: Bearer {LIVE}x"],
    "in capitals": [f"Authorization: Bearer {LIVE.upper()}"],
    "not ASCII": [f"Authorization: Bearer {LIVE}é"],
    "Latin-1": [b"Authorization: Bearer \xff\xfe"],
    "10 KB": ["Authorization: Bearer " + "a" * 10_240],
    "with spaces": ["Authorization: Bearer secret of okta"],
    "with a tail": [f"Authorization: Bearer {LIVE} x"],
    "two in one": [f"Authorization: Bearer {LIVE}, Bearer {LIVE}"],
    "after a tab": [f"Authorization: Bearer\t{LIVE}"],
    "quoted": [f'Authorization: Bearer "{LIVE}"'],
    "doubled": [f"Authorization: Bearer {LIVE}"] * 2,
    "doubled, one wrong": [f"Authorization: Bearer {LIVE}", "authorization: Bearer wrong"],
    "doubled, one empty": ["AUTHORIZATION:", f"Authorization: Bearer {LIVE}"],
    "Basic": ["Authorization: Basic b2t0YTpzZWNyZXQ="],
    "Basic with the token": [f"Authorization: Basic {LIVE}"],
    "no scheme": [f"Authorization: {LIVE}"],
    "an operator's": ["Authorization: Bearer token-of-an-operator"],
    "revoked": ["Authorization: Bearer token-that-was-revoked"],
    "of a source that is gone": ["Authorization: Bearer token-of-a-retired-source"],
    "in other headers": [f"Proxy-Authorization: Bearer {LIVE}", f"X-Api-Key: {LIVE}", f"Cookie: access_token={LIVE}"],
    "overridden": ["X-HTTP-Method-Override: GET", "X-Original-URL: /livez", "X-Rewrite-URL: /livez"],
}


@pytest.fixture(scope="module")
def known(program: Program) -> Any:
    """A user who would be shown if a door stood open."""
    return program.client("okta").user("door@example.com")


def assert_refused(program: Program, before: dict[str, float], requests: int) -> None:
    """So many requests were counted since then, each of them as a 401."""
    grown = {labels: count - before.get(labels, 0) for labels, count in program.counted().items()}
    assert sum(grown.values()) == requests
    assert [labels for labels, more in grown.items() if more and 'code="401"' not in labels] == []


def assert_is_the_refusal(got: Raw, first: Raw, what: object) -> None:
    """Every byte is that of the first refusal; a HEAD has no body."""
    assert (got.head, got.body) in ((first.head, first.body), (first.head, b"")), what


def test_no_route_method_or_credential_gets_in(program: Program, known: Any) -> None:
    before = program.counted()
    with Wire(program.port) as wire:
        first = wire.ask(request("GET", f"{PREFIX}/Users"))
        assert (first.status, first.names) == (401, {"www-authenticate", "content-type", "content-length"})
        for why, headers in REFUSED.items():
            for method in KNOWN:
                for route in ROUTES:
                    target = PREFIX + route.replace("ID", known["id"])
                    assert_is_the_refusal(wire.ask(request(method, target, *headers)), first, (why, method, route))
    assert_refused(program, before, 1 + len(REFUSED) * len(KNOWN) * len(ROUTES))


def test_what_is_no_method_is_no_request(program: Program, known: Any) -> None:
    """With a live token too: nothing of it reaches a handler."""
    before = program.counted()
    for method in NO_METHODS:
        for header in (f"Authorization: Bearer {LIVE}", "Authorization: Bearer wrong"):
            with Wire(program.port) as wire:
                assert wire.ask(request(method, f"{PREFIX}/Users/{known['id']}", header)).status == 400
    assert program.counted() == before


LETTERS = "".join(f"%{ord(letter):02X}" for letter in "Users")
AFTER = ["", "/", "//", "/.", "/..", "/./", "/../", "/*", ".", "..", ".json", ".xml", "~", "*", "%", "%zz", "%0", "\\",
         "%2F", "%2f", "%2f..%2f..", "%5c", "%5C..", "%2e", "%2e%2e", "/%2e%2e", "/%2e%2e/%2e%2e/livez", "%252e%252e",
         "%252f", "%c0%ae%c0%ae", "%c0%af", "%ff", "%ed%a0%80", "%00", "%00.json", "%0a", "%0d%0a", "%0d%0aX-Y:%20z",
         "%09", "%20", "+", ";", ";x=1", ";jsessionid=1", "/;/", "/..;/", ",", "%3b", "?", "??", "?&", "?x=/livez",
         "?access_token=" + LIVE, "?token=" + LIVE, "?authorization=Bearer%20" + LIVE, "#", "#/livez", "%23", "%3f",
         "%E2%80%AE", "%EF%BC%8F", "%C2%AD", "%E2%80%8B", "%C3%A9", "/livez", "/../../../livez", "%2f%2flivez",
         "//idsync.example.com/livez", "/@", ":80", "%2B"]  # fmt: skip
BEFORE = ["//", "/./", "/../", "/%2e/", "/%2e%2e/", "/%2f", "/%5c", "/;/", "/.;/", "/..;/", "/x/../", "/livez/../",
          "/%00/", "/%20/", "/%0d%0a/", "/v2/", "/scim/v2/", "/..%2f..%2f..%2f", "/http://127.0.0.1/", "/:@/"]  # fmt: skip
SPELLED = ["users", "USERS", "uSERS", LETTERS, LETTERS.lower(), "%55sers", "User%73", "%2555sers", "%EF%BC%B5sers",
           "U%C5%BFers", "%E2%80%8BUsers", "U.sers", "Use%20rs", "Us%00ers", "U%73e%72s"]  # fmt: skip


def spellings(user_id: str) -> list[str]:
    """Return about five hundred ways to write paths under the mount."""
    ends = ("/Users", f"/Users/{user_id}", "/Groups", "/Bulk", "/Schemas")
    found = [end + after for end in ends for after in AFTER]
    found += [before + end.lstrip("/") for end in ends for before in BEFORE]
    return found + [f"/{spelled}{end}" for spelled in SPELLED for end in ("", f"/{user_id}", "?count=1", "/", ";x")]


def test_no_spelling_of_a_path_gets_in(program: Program, known: Any) -> None:
    found = spellings(known["id"])
    assert len(found) >= 500
    before = program.counted()
    with Wire(program.port) as wire:
        first = wire.ask(request("GET", f"{PREFIX}/Users"))
        for path in found:
            for method, why in (("GET", "no header"), ("GET", "wrong"), ("DELETE", "revoked"), ("POST", "doubled")):
                got = wire.ask(request(method, PREFIX + path, *REFUSED[why]))
                assert_is_the_refusal(got, first, (why, method, path))
    assert_refused(program, before, 1 + 4 * len(found))


BESIDE = ["/SCIM/v2", "/Scim/V2", "//scim/v2", "/scim//v2", "/scim/./v2", "/./scim/v2", "/x/../scim/v2", "/scim/v1",
          "/livez/../scim/v2", "/livez/scim/v2", "/scim/v2x", "/scim/v2.", "/scim/v2;", "/scim;/v2", "/scim%00/v2",
          "/scim", "/scim/", "/%2fscim/v2", "/scim/v%32%20", "/ｓcim/v2", "/scim/v2/Uſers", "/scim%252fv2", "\\scim\\v2", "/scim\\v2",
          "/scim%5cv2", "", "*", "scim/v2", "?/scim/v2", "%2e%2e/scim/v2"]  # fmt: skip
"""Not the mount; nothing but the probes answers there."""
MOUNT = ["/scim%2fv2", "/scim/v%32", "/%73cim/v2", "/scim%2Fv2", "http://evil.example.com/scim/v2",
         "https://user:pw@127.0.0.1:1/scim/v2", "HTTP://x/scim/v2"]  # fmt: skip
"""The mount in another spelling."""


def test_the_mount_has_no_side_door(program: Program, known: Any) -> None:
    """What is spelled like the mount but is not is no resource, with a live token as without."""
    with Wire(program.port) as wire:
        first = wire.ask(request("GET", f"{PREFIX}/Users"))
        for mount in MOUNT:
            for method in ("GET", "DELETE"):
                got = wire.ask(request(method, f"{mount}/Users/{known['id']}", *REFUSED["wrong"]))
                assert_is_the_refusal(got, first, (mount, method))
        for mount in BESIDE:
            for headers in (REFUSED["wrong"], [f"Authorization: Bearer {LIVE}"]):
                got = wire.ask(request("GET", f"{mount}/Users/{known['id']}", *headers))
                assert got.status in (400, 404), (mount, got)
                assert b"door@example.com" not in got.body


def test_a_stranger_is_refused_before_their_body_is_read(program: Program, known: Any) -> None:
    """The body never comes; and what is sent as a body after all is not taken for a request."""
    announced = (["Content-Length: 1000"], ["Content-Length: 67108864"], ["Transfer-Encoding: chunked"],
                 ["Content-Length: 1000", "Expect: 100-continue"])  # fmt: skip
    for route in ROUTES:
        for method in ("POST", "PUT", "PATCH", "DELETE", "GET"):
            for length in announced:
                with Wire(program.port) as wire:
                    got = wire.ask(request(method, PREFIX + route, *REFUSED["revoked"], *length))
                    assert got.status == 401, (route, method, length, got)
    inner = request("DELETE", f"{PREFIX}/Users/{known['id']}", f"Authorization: Bearer {LIVE}")
    for lengths in ([f"Content-Length: {len(inner)}"], ["Content-Length: 0", "Transfer-Encoding: chunked"]):
        with Wire(program.port) as wire:
            wire.write(request("POST", f"{PREFIX}/Users", *lengths, "Connection: close", body=inner))
            assert wire.read().status in (400, 401)
    assert program.client("okta").get(f"/Users/{known['id']}").status == 200


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR", "Bearer   "])
def test_the_scheme_has_no_letter_case(program: Program, scheme: str) -> None:
    with Wire(program.port) as wire:
        got = wire.ask(request("GET", f"{PREFIX}/Users?count=0", f"authorization: {scheme} {LIVE}"))
        assert got.status == 200


# -- S8: tokens change while requests come ------------------------------------------------------------------------------


class Caller:
    """A client that never pauses; it may be given another token while it runs, as an administrator does at the IdP."""

    def __init__(self, port: int, token: str) -> None:
        self.token = token
        self.answers: list[tuple[str, int]] = []
        self._client = Client(port, token)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._done.is_set():
            self._client.token = self.token
            self.answers.append((self._client.token, self._client.get("/Users?count=0").status))

    def change_over(self, token: str) -> None:
        """Use another token, and wait until it was used."""
        self.token = token
        until(lambda: self.answers[-1:] == [(token, 200)], "an answer to the new token", told=lambda: self.answers[-1:])

    def end(self) -> None:
        self._done.set()
        self._thread.join()


def rotate(program: Program, callers: list[Caller], old: str) -> str:
    """Make a token, let everybody change over, revoke the old one and see it refused at once; return the new one."""
    settings = program.daemon.settings
    made = idsync(settings, "token", "new", "okta")
    assert made.code == 0, made.err
    fresh = made.out.strip()
    if SHARED:  # a replica reads the tokens again within 2 s
        until(lambda: Client(program.port, fresh).get("/Users?count=0").status == 200, "the new token is known")
    for caller in callers:
        caller.change_over(fresh)
    with program.store() as db:
        (old_id,) = [token.id for token in tokens.live_tokens(db) if token.digest == digest(old)]
    assert idsync(settings, "token", "revoke", old_id).code == 0
    if SHARED:
        until(lambda: Client(program.port, old).get("/Users").status == 401, "the old token is refused")
    assert Client(program.port, old).get("/Users").status == 401
    return fresh


def test_tokens_are_rotated_under_load_and_never_written_down(tmp_path: Path, gateway: Gateway) -> None:
    with Daemon(write_settings(tmp_path, gateway.sandbox.url)) as daemon:
        program = Program(daemon)
        callers = [Caller(program.port, TOKEN) for _ in range(3)]
        try:
            second = rotate(program, callers, TOKEN)
            third = rotate(program, callers, second)
        finally:
            for caller in callers:
                caller.end()
        answers = [answer for caller in callers for answer in caller.answers]
        assert {status for _, status in answers} == {200}, "nobody was refused in between"
        assert {token for token, _ in answers} == {TOKEN, second, third}
        said = [refusals(program.port, token) for token in (TOKEN, second, third)]
        said += [program.page("/metrics", operations=True)[1].encode(), daemon.said().encode()]
        said += [file.read_bytes() for file in tmp_path.glob("idsync.db*") if file.is_file()]
        for token in (TOKEN, second, third):
            assert [text for text in said if token.encode() in text] == []


def refusals(port: int, token: str) -> bytes:
    """Name a token wherever a request can hold it, and return every error that was answered.

    A path and the name of an attribute are told again to whoever sent them; those answers are left out.
    """
    client = Client(port, token)
    for path in (f"/{token}", f"/Users?sortBy={token}", f"/Users?attributes={token}"):
        client.get(path)
    client.send("POST", "/Users", {"userName": "named@example.com", token: token})
    answers = [
        client.get(f"/Users/{token}"),
        client.get(f"/Users?filter={token}"),
        client.get(f"/Users?filter=title+eq+{token}+x"),
        client.get(f"/Users?count={token}"),
        client.send("POST", "/Users", token.encode()),
        client.send("POST", "/Users", {"userName": ""}, {"Content-Type": token}),
        client.send("PUT", "/Users/x", {"userName": "x"}, {"If-Match": token}),
    ]
    assert all(got.status >= 400 for got in answers)
    return b"".join(got.raw for got in answers)
