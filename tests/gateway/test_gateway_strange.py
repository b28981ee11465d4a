"""Answers no gateway should give: filters ignored, pages in circles, keys unasked, bodies without end."""

from __future__ import annotations

import asyncio
import json
import shlex
import shutil
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from idsync.clock import Clock, ManualClock
from idsync.errors import BadAnswer, ConfigError, GatewayError, Rejected, Transient
from idsync.gateway.caller import PASSING
from idsync.gateway.client import Gateway
from idsync.gateway.trial import try_key
from idsync.model import GatewayUser

from .helpers import gateway_at, serving

ANN = GatewayUser("ann", None, None, {})


def ask(
    answers: Callable[[web.Request], Any], act: Callable[[Gateway], Awaitable[Any]], clock: Clock | None = None
) -> tuple[Any, list[str]]:
    """Let a gateway that answers so be asked; return what came of it and what it was asked."""
    asked: list[str] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        asked.append(f"{request.method} {request.path_qs}")
        answer = answers(request)
        return answer if isinstance(answer, web.StreamResponse) else web.json_response(answer)

    async def inside() -> Any:
        async with serving(handler) as url, gateway_at(url, clock) as gateway:
            return await act(gateway)

    return asyncio.run(inside()), asked


def key_page(*rows: Any) -> dict[str, Any]:
    return {"keys": list(rows), "total_count": len(rows), "current_page": 1, "total_pages": 1}


class TestOthersKeys:
    """A gateway that ignores the filter must not get somebody else's keys deleted."""

    def test_an_ignored_filter(self) -> None:
        page = key_page(
            {"token": "a", "user_id": "ann"}, {"token": "b", "user_id": "bob"}, {"token": "c", "user_id": None}
        )
        keys, _ = ask(lambda _: page, lambda g: g.list_keys(user_id="ann"))
        assert [key.id for key in keys] == ["a"]

    @pytest.mark.parametrize("rows", [("a", "b", "c"), ({"token": "a"}, {"token": "b"}, {"token": "c"})])
    def test_rows_that_do_not_say_whose_they_are_are_looked_up(self, rows: tuple[Any, ...]) -> None:
        owners = {"a": "ann", "b": "bob"}

        def answers(request: web.Request) -> Any:
            if request.path == "/key/list":
                return key_page(*rows)
            key = request.query["key"]
            if key not in owners:
                return web.json_response({"error": {"message": "gone"}}, status=404)
            return {"key": key, "info": {"user_id": owners[key]}}

        keys, asked = ask(answers, lambda g: g.list_keys(user_id="ann"))
        assert [key.id for key in keys] == ["a"]
        assert len(asked) == 4

    @pytest.mark.parametrize(("owner", "found"), [("ann", ["a"]), ("bob", []), ("", [])])
    def test_a_row_of_nobody_where_the_filter_is_heeded_is_looked_up(self, owner: str, found: list[str]) -> None:
        def answers(request: web.Request) -> Any:
            if request.path == "/key/list":
                return key_page({"token": "a", "user_id": None}, {"token": "b", "user_id": "ann"})
            gone = web.json_response({"error": {"message": "gone"}}, status=404)
            return {"key": "a", "info": {"user_id": owner}} if owner else gone

        keys, _ = ask(answers, lambda g: g.list_keys(user_id="ann"))
        assert [key.id for key in keys] == [*found, "b"]

    def test_a_row_whose_look_up_names_nobody_either_is_no_answer(self) -> None:
        def answers(request: web.Request) -> Any:
            row = {"token": "a", "user_id": None}
            return key_page(row) if request.path == "/key/list" else {"key": "a", "info": row}

        with pytest.raises(BadAnswer):
            ask(answers, lambda g: g.list_keys(user_id="ann"))

    def test_bare_ids_are_fine_when_everything_was_asked_for(self) -> None:
        keys, asked = ask(lambda _: key_page("a", 7), lambda g: g.list_keys())
        assert [key.id for key in keys] == ["a", "7"]
        assert len(asked) == 1

    def test_a_gateway_that_cannot_sort_by_that_is_asked_without(self) -> None:
        def answers(request: web.Request) -> Any:
            if "sort_by" in request.query:
                return web.json_response({"error": {"message": "Invalid sort column"}}, status=400)
            return key_page({"token": "a", "user_id": "ann"})

        async def twice(g: Gateway) -> Any:
            await g.list_keys(user_id="ann")
            return await g.list_keys(user_id="ann")

        keys, asked = ask(answers, twice)
        assert [key.id for key in keys] == ["a"]
        assert len(asked) == 3

    def test_a_listing_that_is_refused_stays_refused(self) -> None:
        refusal = {"detail": [{"loc": ["query", "size"], "msg": "too much"}]}
        with pytest.raises(Rejected):
            ask(lambda _: web.json_response(refusal, status=422), lambda g: g.list_keys())

    def test_pages_in_circles(self) -> None:
        page = key_page({"token": "a", "user_id": "ann"}) | {"total_count": 300}
        with pytest.raises(BadAnswer):
            ask(lambda _: page, lambda g: g.list_keys(user_id="ann"))

    def test_a_row_without_an_id(self) -> None:
        with pytest.raises(BadAnswer):
            ask(lambda _: key_page({"user_id": "ann"}), lambda g: g.list_keys(user_id="ann"))


class TestUsers:
    def test_an_id_that_is_no_unicode(self) -> None:
        user, asked = ask(
            lambda _: web.json_response({"error": {"message": ""}}, status=404), lambda g: g.get_user("\ud800")
        )
        assert user is None
        assert asked == ["GET /v2/user/info?user_id=%ED%A0%80"]

    def test_another_user_than_asked_for(self) -> None:
        with pytest.raises(BadAnswer):
            ask(lambda _: {"user_id": "bob", "metadata": {}}, lambda g: g.get_user("ann"))

    def test_a_light_read_without_metadata_is_followed_by_the_full_one(self) -> None:
        def answers(request: web.Request) -> Any:
            row = {"user_id": "ann", "user_role": "internal_user"}
            return (
                row if request.path.startswith("/v2") else {"user_id": "ann", "user_info": row | {"metadata": {"a": 1}}}
            )

        async def twice(g: Gateway) -> Any:
            await g.get_user("ann")
            return await g.get_user("ann")

        user, asked = ask(answers, twice)
        assert user.metadata == {"a": 1}
        assert [line.split("?")[0] for line in asked] == ["GET /v2/user/info", "GET /user/info", "GET /user/info"]

    def test_metadata_that_is_garbage_everywhere_stays_unread(self) -> None:
        user, _ = ask(lambda _: {"user_id": "ann", "metadata": "garbage"}, lambda g: g.get_user("ann"))
        assert user.metadata is None

    @pytest.mark.parametrize("fields", [{"token": "id1"}, {"token_id": "id1"}, {}])
    def test_a_key_made_unasked_is_deleted_and_an_alarm(self, fields: dict[str, str]) -> None:
        bodies: list[Any] = []

        async def handler(request: web.Request) -> web.Response:
            bodies.append((request.path, await request.json()))
            made = {"user_id": "ann", "key": "sk-fresh-secret", **fields}
            return web.json_response(made if request.path == "/user/new" else {"deleted_keys": []})

        async def inside() -> None:
            async with serving(handler) as url, gateway_at(url) as g:
                with pytest.raises(BadAnswer) as caught:
                    await g.create_user(user_id="ann")
                assert "sk-fresh" not in str(caught.value)

        asyncio.run(inside())
        assert bodies[0][1] == {"user_id": "ann", "auto_create_key": False, "send_invite_email": False}
        assert bodies[1] == ("/key/delete", {"keys": ["id1" if fields else "sk-fresh-secret"]})

    def test_another_user_created_than_asked_for(self) -> None:
        with pytest.raises(BadAnswer):
            ask(lambda _: {"user_id": "bob"}, lambda g: g.create_user(user_id="ann"))

    def test_an_update_answered_for_somebody_else(self) -> None:
        with pytest.raises(BadAnswer):
            ask(lambda _: {"user_id": "bob"}, lambda g: g.update_user(ANN, role="internal_user"))


class TestTeams:
    def test_a_team_list_that_ignores_the_user_is_filtered(self) -> None:
        rows = [
            {"team_id": "t", "members_with_roles": [{"user_id": "ann"}]},
            {"team_id": "s", "members_with_roles": []},
        ]
        teams, _ = ask(lambda _: rows, lambda g: g.teams_of("ann"))
        assert [team.team_id for team in teams] == ["t"]

    def test_a_team_list_too_long_to_read_is_read_in_pages(self) -> None:
        row = {"team_id": "t", "members_with_roles": [{"user_id": "ann"}]}

        def answers(request: web.Request) -> Any:
            if request.path == "/team/list":
                return web.Response(body=b"[" + b" " * (9 * 1024 * 1024) + b"]", content_type="application/json")
            return {"teams": [row], "total": 1}

        teams, asked = ask(answers, lambda g: g.teams_of("ann"))
        assert [team.team_id for team in teams] == ["t"]
        assert len(asked) == 2

    def test_another_team_than_asked_for(self) -> None:
        with pytest.raises(BadAnswer):
            ask(lambda _: {"team_id": "s", "members_with_roles": []}, lambda g: g.get_team("t"))


class TestWire:
    def test_headers_and_bodies(self) -> None:
        seen: list[Any] = []

        async def handler(request: web.Request) -> web.Response:
            seen.append((dict(request.headers), await request.read()))
            return web.json_response({"user_id": "ann"})

        async def inside() -> None:
            async with serving(handler) as url, gateway_at(url + "/", organization_id="org-1") as g:
                await g.update_user(ANN, metadata={"n": 1})
                await g.get_user("ann")

        asyncio.run(inside())
        headers, body = seen[0]
        assert body == b'{"user_id":"ann","metadata":{"n":1}}'
        assert headers["Content-Type"] == "application/json"
        assert headers["Authorization"] == "Bearer sk-admin-1234"
        assert headers["X-Organization-Id"] == "org-1"
        assert headers["litellm-changed-by"] == "idsync"
        assert "litellm-changed-by" not in seen[1][0]
        assert "Content-Type" not in seen[1][0]

    def test_a_redirect_is_not_followed(self) -> None:
        def answers(request: web.Request) -> Any:
            return web.Response(status=308, headers={"Location": "/elsewhere"})

        async def act(g: Gateway) -> None:
            with pytest.raises(Transient):
                await g.block_key("k")

        _, asked = ask(answers, act)
        assert asked == ["POST /key/block"]

    def test_a_body_without_end_is_cut(self) -> None:
        async def handler(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            try:
                while True:
                    await response.write(b" " * 65536)
            except ConnectionError:
                return response

        async def inside() -> None:
            async with serving(handler) as url, gateway_at(url) as g:
                with pytest.raises(BadAnswer):
                    await g.key_info("k")

        asyncio.run(inside())

    @pytest.mark.parametrize(("too_many", "found"), [(0, True), (1, False)])
    def test_an_answer_about_one_thing_is_read_up_to_a_mebibyte(self, too_many: int, found: bool) -> None:
        row = json.dumps({"key": "k", "info": {"token": "k", "key_alias": "a"}}).encode()
        body = row + b" " * (1024 * 1024 - len(row) + too_many)
        answers = web.Response(body=body, content_type="application/json")
        with nullcontext() if found else pytest.raises(BadAnswer):
            ask(lambda _: answers, lambda g: g.key_info("k"))

    def test_cookies_are_not_kept(self) -> None:
        def answers(request: web.Request) -> Any:
            assert "Cookie" not in request.headers
            response = web.json_response({"user_id": "ann", "metadata": {}})
            response.set_cookie("session", "x")
            return response

        async def twice(g: Gateway) -> None:
            await g.get_user("ann")
            await g.get_user("ann")

        ask(answers, twice)

    def test_a_ca_file_that_is_none(self) -> None:
        async def inside() -> None:
            async with gateway_at("https://127.0.0.1:9", ca_file="/nonexistent"):
                pytest.fail("opened")

        with pytest.raises(ConfigError):
            asyncio.run(inside())

    @pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl")
    def test_a_private_authority(self, tmp_path: Path) -> None:
        key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=gateway"
        command += f" -addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}"
        subprocess.run(shlex.split(command), check=True, capture_output=True)
        server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        server.load_cert_chain(certificate, key)

        async def handler(_: web.Request) -> web.Response:
            return web.json_response({"user_id": "ann", "metadata": {}})

        async def inside() -> None:
            async with serving(handler, server) as url:
                async with gateway_at(url, ca_file=str(certificate)) as g:
                    assert await g.get_user("ann")
                async with gateway_at(url) as g:
                    with pytest.raises(Transient, match="not trusted"):
                        await g.get_user("ann")

        asyncio.run(inside())

    def test_closing_twice_and_using_again(self) -> None:
        async def act(g: Gateway) -> Any:
            await g.close()
            await g.close()
            return await g.get_user("ann")

        user, _ = ask(lambda _: {"user_id": "ann", "metadata": {}}, act)
        assert user.user_id == "ann"

    def test_a_trial_that_nobody_answers(self) -> None:
        trial = asyncio.run(try_key("http://127.0.0.1:9", "sk-something", timeout=2))
        assert (trial.status, trial.refused) == (None, False)


class TestNoSuchEndpoint:
    """Departures close on less without some operations: one answer that says so is not enough."""

    def lacking(
        self, *lacks: bool, clock: ManualClock | None = None, pause: float = 0.0
    ) -> tuple[list[str], list[str]]:
        """Ask for a key as often as it takes to use these answers up; return what came of it and what was asked."""
        left, came = list(lacks), []
        clock = clock or ManualClock()

        def answers(_: web.Request) -> Any:
            return web.json_response({"detail": "Not Found"}, status=404) if left.pop(0) else {"key": "a", "info": {}}

        async def look(gateway: Gateway) -> None:
            while left:
                try:
                    came.append("yes" if await gateway.key_info("a") else "no")
                except GatewayError as error:
                    came.append(type(error).__name__)
                clock.advance(pause)

        _, asked = ask(answers, look, clock=clock)
        return came, asked

    def test_once_is_asked_again(self) -> None:
        assert self.lacking(True, False)[0] == ["yes"]

    def test_twice_is_believed_and_not_asked_twice_any_more(self) -> None:
        assert self.lacking(True, True, True, True)[0] == ["Unsupported"] * 3

    def test_what_has_worked_is_missed_for_a_while(self) -> None:
        lacks = (False, True, True, True, True)
        assert self.lacking(*lacks)[0] == ["yes", "Transient", "Transient"]
        assert self.lacking(*lacks, pause=PASSING)[0] == ["yes", "Transient", "Unsupported"]

    def test_what_works_again_is_there_again(self) -> None:
        came, _ = self.lacking(True, True, False, True, True, pause=PASSING)
        assert came == ["Unsupported", "yes", "Transient"]


class TestLongPages:
    """Rosters of a large company: a page of a hundred teams is more than is read of one answer."""

    def team(self, number: int, members: int) -> dict[str, Any]:
        roster = [{"user_id": f"member-{place:05}" + "x" * 980, "role": "user"} for place in range(members)]
        return {"team_id": f"t{number:03}", "team_alias": f"t{number}", "members_with_roles": roster}

    def test_shorter_pages_are_asked_for_and_remembered(self) -> None:
        teams = [self.team(number, 2000) for number in range(8)]

        def serve(request: web.Request) -> Any:
            size, number = int(request.query["page_size"]), int(request.query["page"])
            return {"teams": teams[(number - 1) * size : number * size], "total": len(teams)}

        async def read(gateway: Gateway) -> list[int]:
            return [len(await gateway.list_teams()) for _ in range(2)]

        counts, asked = ask(serve, read)
        assert counts == [8, 8]
        sizes = [int(path.split("page_size=")[1].split("&")[0]) for path in asked]
        assert sizes[:6] == [100, 50, 25, 12, 6, 3]
        assert set(sizes[5:]) == {3}

    def test_one_row_that_is_too_long_is_an_error(self) -> None:
        with pytest.raises(BadAnswer):
            ask(lambda _: {"teams": [self.team(0, 9000)], "total": 1}, lambda g: g.list_teams())
