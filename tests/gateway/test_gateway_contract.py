"""Every method against the sandbox over real HTTP, in both dialects; the faults and traps among them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from idsync.clock import SystemClock
from idsync.errors import (
    AdminKeyRefused,
    BadAnswer,
    Conflicting,
    Missing,
    Rejected,
    Throttled,
    Transient,
    Unsupported,
)
from idsync.gateway.client import Gateway, GatewaySettings, NewKey, recorder, try_key
from idsync.gateway.dialects import Dialect
from idsync.model import Call, GatewayUser
from idsync.sandbox.server import Options, Sandbox

from .helpers import ADMIN_KEY, Site

BOTH: tuple[Dialect, ...] = ("litellm", "routero")


@pytest.fixture(scope="module", params=BOTH)
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    with Sandbox(Options(dialect=request.param, admin_key=ADMIN_KEY, clock="manual")) as running:
        yield running


@pytest.fixture
def site(sandbox: Sandbox) -> Iterator[Site]:
    dialect: Dialect = "routero" if sandbox.options.dialect == "routero" else "litellm"
    site = Site(sandbox, dialect)
    before = site.hook("options", method="GET")
    site.hook("reset", {})
    yield site
    site.options(**before, admin_key=ADMIN_KEY)


@pytest.fixture
def ann(site: Site) -> str:
    """A person with two teams, three keys of her own, and a shared key beside them."""
    site.seed(
        teams=[{"team_id": name, "team_alias": name.title()} for name in ("red", "blue", "green")],
        users=[
            {"user_id": "ann", "user_email": "Ann@corp.example", "sso_user_id": "00u1", "metadata": {"a": 1}},
            {"user_id": "joann", "user_email": "joann@corp.example"},
        ],
        members=[{"team_id": "red", "user_id": "ann"}, {"team_id": "blue", "user_id": "ann"}],
        keys=[
            {"user_id": "ann", "key_alias": "one"},
            {"user_id": "ann", "team_id": "red", "key_alias": "two"},
            {"user_id": "ann", "team_id": "green", "key_alias": "three"},
            {"team_id": "red", "key_alias": "shared"},
            {"user_id": "joann", "key_alias": "hers"},
        ],
    )
    return "ann"


def user(user_id: str, **fields: Any) -> GatewayUser:
    return GatewayUser(**{"user_id": user_id, "email": None, "role": None, "metadata": {}, **fields})


class TestUsers:
    def test_get(self, site: Site, ann: str) -> None:
        found = site.run(lambda g: g.get_user(ann))
        assert found is not None
        assert (found.user_id, found.email, found.metadata) == ("ann", "Ann@corp.example", {"a": 1})
        assert (set(found.teams), found.sso_user_id, found.role) == ({"red", "blue"}, "00u1", "internal_user")
        assert site.asked() == ["GET /v2/user/info"]

    def test_get_nobody(self, site: Site) -> None:
        assert site.run(lambda g: g.get_user("nobody")) is None

    @pytest.mark.parametrize("odd", ["a+b", "a b", "ä/ö?&#", "12345", "a,b c"])
    def test_get_odd_ids(self, site: Site, odd: str) -> None:
        site.seed(users=[{"user_id": odd}, {"user_id": "other"}])
        found = site.run(lambda g: g.get_user(odd))
        assert found is not None
        assert found.user_id == odd

    def test_get_without_the_light_endpoint(self, site: Site, ann: str) -> None:
        site.fault("/v2/user/info", status=404)

        async def twice(g: Gateway) -> list[GatewayUser | None]:
            return [await g.get_user(ann), await g.get_user(ann), await g.get_user("nobody")]

        first, second, nobody = site.run(twice)
        assert first == second
        assert first is not None
        assert set(first.teams) == {"red", "blue"}
        assert nobody is None
        assert site.asked().count("GET /v2/user/info") == 1, "what is missing is not asked for again"

    def test_find_by_email_is_exact_whatever_the_case(self, site: Site, ann: str) -> None:
        assert [u.user_id for u in site.run(lambda g: g.find_users(email="ANN@corp.EXAMPLE"))] == ["ann"]

    def test_find_by_sso_id(self, site: Site, ann: str) -> None:
        assert [u.user_id for u in site.run(lambda g: g.find_users(sso_user_id="00u1"))] == ["ann"]
        assert site.run(lambda g: g.find_users(sso_user_id="00u")) == []

    def test_find_wants_one_of_the_two(self, site: Site) -> None:
        with pytest.raises(ValueError):
            site.run(lambda g: g.find_users())

    def test_list_to_the_end(self, site: Site) -> None:
        site.seed(users=[{"user_id": f"u{n}", "user_email": f"u{n}@corp.example"} for n in range(230)])
        users = site.run(lambda g: g.list_users())
        assert {u.user_id for u in users} == {f"u{n}" for n in range(230)}
        assert len(users) == 230
        assert [u.user_id for u in site.run(lambda g: g.find_users(email="u1@corp.example"))] == ["u1"]

    def test_create(self, site: Site) -> None:
        made = site.run(
            lambda g: g.create_user(
                user_id="new", email="n@corp.example", role="internal_viewer", sso_user_id="00u2", alias="New"
            )
        )
        assert (made.user_id, made.email, made.role) == ("new", "n@corp.example", "internal_user_viewer")
        assert site.state()["keys"] == []
        assert site.run(lambda g: g.find_users(sso_user_id="00u2"))[0].user_id == "new"

    @pytest.mark.parametrize("who", [{"user_id": "ann"}, {"user_id": "x", "email": "aNN@corp.example"}])
    def test_create_again(self, site: Site, ann: str, who: dict[str, str]) -> None:
        with pytest.raises(Conflicting):
            site.run(lambda g: g.create_user(**who))

    def test_create_with_a_bad_role(self, site: Site) -> None:
        with pytest.raises(Rejected):
            site.run(lambda g: g.create_user(user_id="new", role="emperor"))

    def test_update_replaces_the_whole_metadata(self, site: Site, ann: str) -> None:
        async def fence(g: Gateway) -> GatewayUser | None:
            found = await g.get_user(ann)
            assert found is not None
            await g.update_user(found, metadata={**(found.metadata or {}), "scim_active": False, "idsync_fence": "d1"})
            return await g.get_user(ann)

        found = site.run(fence)
        assert found is not None
        assert (found.fenced, found.fence_tag, found.metadata and found.metadata["a"]) == (True, "d1", 1)

    def test_update_of_other_fields_leaves_metadata(self, site: Site, ann: str) -> None:
        async def rename(g: Gateway) -> GatewayUser | None:
            await g.update_user(user(ann), email="departed+ann@invalid")
            return await g.get_user(ann)

        found = site.run(rename)
        assert found is not None
        assert (found.email, found.metadata) == ("departed+ann@invalid", {"a": 1})

    def test_update_of_nothing_is_no_call(self, site: Site, ann: str) -> None:
        site.run(lambda g: g.update_user(user(ann)))
        assert site.asked() == []

    def test_nobody_is_created_by_looking_for_them(self, site: Site) -> None:
        async def look(g: Gateway) -> None:
            await g.get_user("ghost")
            await g.find_users(email="ghost@corp.example")
            await g.block_key("ghost")
            await g.remove_member("ghost", "ghost")

        site.run(look)
        assert site.state()["users"] == []

    def test_delete_takes_the_keys_and_the_rosters_along_and_is_repeatable(self, site: Site, ann: str) -> None:
        async def delete(g: Gateway) -> list[object]:
            await g.delete_user(ann)
            await g.delete_user(ann)
            return [await g.get_user(ann), await g.list_keys(user_id=ann), await g.teams_of(ann)]

        assert site.run(delete) == [None, [], []]
        assert {one["user_id"] for one in site.state()["users"]} == {"joann"}

    @pytest.mark.parametrize("role", ["internal_user_viewer", "internal_viewer"])
    def test_set_role(self, site: Site, ann: str, role: str) -> None:
        async def demote(g: Gateway) -> GatewayUser | None:
            found = await g.get_user(ann)
            assert found is not None
            await g.set_role(found, role)
            return await g.get_user(ann)

        found = site.run(demote)
        assert found is not None
        assert (found.role, found.metadata) == ("internal_user_viewer", {"a": 1})
        path = "/organization/member_permission_update" if site.dialect == "routero" else "/user/update"
        assert f"POST {path}" in site.asked()

    @pytest.mark.parametrize("email", [None, "Ann@corp.example"])
    def test_set_role_without_the_organization_endpoint(self, site: Site, ann: str, email: str | None) -> None:
        site.fault("/organization/member_permission_update", status=404)

        async def promote(g: Gateway) -> GatewayUser | None:
            for _ in range(2):
                await g.set_role(user(ann, email=email), "internal_user_viewer")
            return await g.get_user(ann)

        found = site.run(promote)
        assert found is not None
        assert found.role == "internal_user_viewer"
        tried = site.asked().count("POST /organization/member_permission_update")
        assert tried == (1 if site.dialect == "routero" and email else 0)

    @pytest.mark.parametrize("role", ["proxy_admin", "proxy_admin_viewer"])
    def test_an_admins_role_is_written_to_the_user_itself(self, site: Site, ann: str, role: str) -> None:
        async def promote(g: Gateway) -> GatewayUser | None:
            await g.set_role(user(ann, email="Ann@corp.example"), role)
            return await g.get_user(ann)

        found = site.run(promote)
        assert found is not None
        assert (found.role, site.asked()[0]) == (role, "POST /user/update")


class TestOrganizations:
    @pytest.fixture(autouse=True)
    def inside(self, site: Site) -> None:
        site.options(licence=True)
        roles = {"acme": "org_admin", "org-default": "internal_user"}
        site.seed(users=[{"user_id": "ben", "organizations": roles}, {"user_id": "b c", "organizations": roles}])

    @pytest.mark.parametrize(("ours", "places"), [("", {"acme", "org-default"}), ("acme", {"acme"})])
    def test_shown_are_all_or_ours(self, site: Site, ours: str, places: set[str]) -> None:
        async def look(g: Gateway) -> Any:
            return await g.organizations_of("ben"), await g.organizations_of("nobody")

        found, nobody = site.run(look, organization_id=ours)
        assert {place.organization_id for place in found} == places
        assert {place.role for place in found if place.organization_id == "acme"} == {"org_admin"}
        assert nobody is None

    def test_an_admin_of_it_and_a_member_like_others_again(self, site: Site) -> None:
        site.seed(
            users=[{"user_id": "cleo", "user_email": "cleo@corp.example", "organizations": {"acme": "internal_user"}}]
        )

        async def up_and_down(g: Gateway) -> list[Any]:
            shown: list[Any] = []
            for role in ("org_admin", "internal_viewer"):
                await g.set_organization_role("acme", user("cleo", email="cleo@corp.example"), role)
                shown.append([place.role for place in await g.organizations_of("cleo") or ()])
                found = await g.get_user("cleo")
                shown.append(found.role if found is not None else None)
            return shown

        found = site.run(up_and_down, organization_id="acme")
        assert found == [["org_admin"], "internal_user", ["internal_user_viewer"], "internal_user"]

    def test_the_role_of_somebody_outside_is_refused(self, site: Site) -> None:
        with pytest.raises(Rejected):
            site.run(lambda g: g.set_organization_role("acme", user("nobody"), "org_admin"))

    def test_leave_and_join_again_and_leave_twice(self, site: Site) -> None:
        async def there_and_back(g: Gateway) -> list[Any]:
            shown = []
            for act in (g.leave_organization, g.leave_organization):
                await act("acme", "ben")
            shown.append(await g.organizations_of("ben"))
            await g.join_organization("acme", "ben", "internal_viewer")
            shown.append(await g.organizations_of("ben"))
            return [{place.organization_id: place.role for place in places or ()} for places in shown]

        outside, inside = site.run(there_and_back)
        assert outside == {"org-default": "internal_user"}
        assert inside == outside | {"acme": "internal_user_viewer"}

    def test_whoever_is_outside_of_ours_is_not_shown(self, site: Site) -> None:
        async def leave(g: Gateway) -> Any:
            await g.leave_organization("acme", "ben")
            return await g.organizations_of("ben")

        assert site.run(leave, organization_id="acme") == (None if site.dialect == "routero" else ())

    @pytest.mark.parametrize("status", [404, 405])
    def test_without_the_endpoint(self, site: Site, status: int) -> None:
        site.fault("/organization/*", status=status)
        for act in (lambda g: g.leave_organization("acme", "ben"), lambda g: g.join_organization("acme", "ben", "x")):
            with pytest.raises(Unsupported):
                site.run(act)

    def test_an_organization_that_is_not_there(self, site: Site) -> None:
        gone = '{"error": {"message": "Organization not found", "type": "auth_error", "param": null, "code": "404"}}'
        site.fault("/organization/member_add", status=404, body=gone, content_type="application/json")
        with pytest.raises(Missing):
            site.run(lambda g: g.join_organization("nowhere", "ben", "internal_user"))

    def test_a_user_id_with_a_space_is_picked_from_the_listing(self, site: Site) -> None:
        found = site.run(lambda g: g.organizations_of("b c"))
        assert len(found or ()) == (2 if site.dialect == "routero" else 0)


class TestKeys:
    def test_list_one_person(self, site: Site, ann: str) -> None:
        keys = site.run(lambda g: g.list_keys(user_id=ann))
        assert {key.alias for key in keys} == {"one", "two", "three"}
        assert {key.user_id for key in keys} == {"ann"}
        assert all(key.name and key.name.startswith("sk-...") for key in keys)

    def test_list_one_team(self, site: Site, ann: str) -> None:
        assert {key.alias for key in site.run(lambda g: g.list_keys(team_id="red"))} == {"two", "shared"}

    def test_list_person_and_team(self, site: Site, ann: str) -> None:
        assert [key.alias for key in site.run(lambda g: g.list_keys(user_id=ann, team_id="red"))] == ["two"]

    def test_list_nobody(self, site: Site, ann: str) -> None:
        assert site.run(lambda g: g.list_keys(user_id="nobody")) == []

    def test_list_all_250(self, site: Site) -> None:
        site.seed(keys=[{"user_id": "ann", "key_alias": f"k{n}"} for n in range(250)])
        keys = site.run(lambda g: g.list_keys(user_id="ann"))
        assert {key.alias for key in keys} == {f"k{n}" for n in range(250)}
        assert len(keys) == 250
        assert site.asked() == ["GET /key/list"] * 3

    def test_a_key_deleted_while_another_is_made_is_noticed_where_it_matters(self, site: Site) -> None:
        seeded = site.seed(keys=[{"user_id": "ann", "key_alias": f"k{n}"} for n in range(150)])
        first = min(seeded, key=lambda key: str(key["token"]))

        def act() -> None:
            site.delete_key(str(first["token"]))
            site.seed(keys=[{"user_id": "ann", "key_alias": "new"}])

        site.between = act
        keys = site.run(lambda g: g.list_keys(user_id="ann", steady=True))
        assert {key.id for key in keys} == {row["token"] for row in site.state()["keys"]}

    def test_a_key_deleted_between_two_pages_makes_it_read_again(self, site: Site) -> None:
        seeded = site.seed(keys=[{"user_id": "ann", "key_alias": f"k{n}"} for n in range(250)])
        first = min(seeded, key=lambda key: str(key["token"]))
        site.between = lambda: site.delete_key(first["token"])
        keys = site.run(lambda g: g.list_keys(user_id="ann"))
        assert len(keys) == 249
        assert first["token"] not in {key.id for key in keys}
        assert site.asked().count("GET /key/list") > 3

    def test_info(self, site: Site, ann: str) -> None:
        async def look(g: Gateway) -> tuple[Any, ...]:
            key = (await g.list_keys(user_id=ann))[0]
            return key, await g.key_info(key.id), await g.key_info("nothing")

        listed, found, nothing = site.run(look)
        assert found == listed
        assert nothing is None

    def test_block_delete_and_read_back(self, site: Site, ann: str) -> None:
        async def revoke(g: Gateway) -> None:
            ids = [key.id for key in await g.list_keys(user_id=ann)]
            assert await asyncio.gather(*(g.block_key(one) for one in ids)) == [True] * 3
            assert {key.blocked for key in await g.list_keys(user_id=ann)} == {True}
            assert await g.unblock_key(ids[0])
            assert await g.block_key(ids[0])
            await g.delete_keys(ids)
            assert await g.list_keys(user_id=ann) == []
            archived = await g.key_info(ids[0])
            assert archived is None or archived.deleted
            assert not await g.block_key(ids[0])
            assert not await g.unblock_key(ids[0])

        site.run(revoke)
        assert {key["key_alias"] for key in site.state()["keys"]} == {"shared", "hers"}

    def test_the_verb_is_learnt_and_remembered(self, site: Site, ann: str) -> None:
        ids = [key.id for key in site.run(lambda g: g.list_keys(user_id=ann))]
        site.learned["key_delete"] = "DELETE" if site.dialect == "litellm" else "POST"  # both are wrong

        async def delete(g: Gateway) -> None:
            for one in ids:
                await g.delete_keys([one])

        site.run(delete)
        right = "POST" if site.dialect == "litellm" else "DELETE"
        assert [line.split()[0] for line in site.asked() if "delete" in line] == [
            "DELETE" if right == "POST" else "POST",
            *[right] * 3,
        ]
        assert site.learned == {"key_delete": right}

    def test_the_expected_verb_is_nothing_to_learn(self, site: Site, ann: str) -> None:
        site.run(lambda g: g.delete_keys(["nothing"]))
        assert site.learned == {}
        assert len(site.asked()) == 1

    def test_a_learnt_verb_that_cannot_be_is_not_believed(self, site: Site, ann: str) -> None:
        site.learned.update(key_delete="GET", nonsense="POST")
        site.run(lambda g: g.delete_keys(["nothing"]))

    def test_no_verb_at_all(self, site: Site) -> None:
        site.fault("/key/delete", status=405)
        with pytest.raises(Unsupported):
            site.run(lambda g: g.delete_keys(["x"]))
        assert sorted(site.asked()) == ["DELETE /key/delete", "POST /key/delete"]
        assert site.learned == {}

    def test_deleting_what_is_gone_is_fine(self, site: Site) -> None:
        site.run(lambda g: g.delete_keys(["gone", "also-gone"]))

    def test_deleting_nothing_is_no_call(self, site: Site) -> None:
        site.run(lambda g: g.delete_keys([]))
        assert site.asked() == []

    def test_a_deletion_that_is_only_claimed_is_seen_by_reading(self, site: Site, ann: str) -> None:
        site.fault("/key/delete", lie=True)

        async def revoke(g: Gateway) -> int:
            ids = [key.id for key in await g.list_keys(user_id=ann)]
            await g.delete_keys(ids)
            return len(await g.list_keys(user_id=ann))

        assert site.run(revoke) == 3

    def test_a_key_is_made_and_its_secret_shown_to_the_caller_alone(self, site: Site, ann: str) -> None:
        calls: list[Call] = []

        async def make(g: Gateway) -> tuple[NewKey, list[str]]:
            token = recorder.set(calls)
            made = await g.generate_key(user_id=ann, alias="drill", duration="1h")
            recorder.reset(token)
            return made, [key.id for key in await g.list_keys(user_id=ann) if key.alias == "drill" and key.expires]

        made, listed = site.run(make)
        assert listed == [made.id]
        assert asyncio.run(try_key(site.sandbox.url, made.secret)).works
        assert made.secret not in repr(made) + repr(calls) + repr(site.seen)

    @pytest.mark.parametrize(
        "answer",
        [{}, {"key": "sk-secret-0123456789"}, {"token_id": "1"}, {"key": "sk-secret-01", "token": "sk-secret-01"}],
        ids=str,
    )
    def test_an_answer_without_a_secret_and_an_id_is_no_key(self, site: Site, answer: dict[str, str]) -> None:
        site.fault("/key/generate", status=200, body=json.dumps(answer))
        with pytest.raises(BadAnswer) as caught:
            site.run(lambda g: g.generate_key(user_id="ann", alias="drill", duration="1h"))
        assert "secret-01" not in str(caught.value)

    def test_making_a_key_is_never_repeated(self, site: Site, ann: str) -> None:
        async def make(g: Gateway) -> None:
            await g.list_keys(user_id=ann)  # there is a pooled connection
            site.fault("/key/generate", drop="after")
            await g.generate_key(user_id=ann, alias="drill", duration="1h")

        with pytest.raises(Transient):
            site.run(make)
        assert site.asked().count("POST /key/generate") == 1

    def test_a_gateway_that_cannot_block(self, site: Site, ann: str) -> None:
        site.options(block_supported=False)
        with pytest.raises(Unsupported):
            site.run(lambda g: g.block_key("x"))


class TestTeams:
    def test_list_and_get(self, site: Site, ann: str) -> None:
        async def look(g: Gateway) -> Any:
            return await g.list_teams(), await g.get_team("red"), await g.get_team("nothing")

        teams, red, nothing = site.run(look)
        assert {team.team_id for team in teams} == {"red", "blue", "green"}
        assert red in teams
        assert red.has_member("ann")
        assert red.alias == "Red"
        assert nothing is None

    def test_list_130(self, site: Site) -> None:
        site.seed(teams=[{"team_id": f"t{n}"} for n in range(130)])
        assert len(site.run(lambda g: g.list_teams())) == 130

    @pytest.mark.parametrize("missing", [(), ("/team/list",), ("/v2/team/list",)])
    def test_teams_of(self, site: Site, ann: str, missing: tuple[str, ...]) -> None:
        for path in missing:
            site.fault(path, status=404)

        async def look(g: Gateway) -> list[set[str]]:
            return [{team.team_id for team in await g.teams_of(name)} for name in (ann, ann, "nobody")]

        assert site.run(look) == [{"red", "blue"}, {"red", "blue"}, set()]

    def test_list_without_pages(self, site: Site, ann: str) -> None:
        site.fault("/v2/team/list", status=404)
        assert len(site.run(lambda g: g.list_teams())) == 3

    def test_create_and_update(self, site: Site) -> None:
        async def make(g: Gateway) -> Any:
            await g.create_team(
                team_id="research",
                alias="Research",
                max_budget=100.0,
                soft_budget=80.0,
                budget_duration="30d",
                models=["gpt-5-mini"],
                metadata={"cost_centre": "7"},
            )
            await g.update_team("research", max_budget=50.0, alias="R", models=["a", "b"])
            await g.update_team("research")
            return await g.get_team("research")

        team = site.run(make)
        assert (team.alias, team.max_budget, team.soft_budget, team.models) == ("R", 50.0, 80.0, ("a", "b"))
        assert (team.budget_duration, team.metadata) == ("30d", {"cost_centre": "7"})

    def test_create_again(self, site: Site, ann: str) -> None:
        with pytest.raises(Conflicting):
            site.run(lambda g: g.create_team(team_id="red", alias="Red"))

    def test_update_of_an_unknown_team(self, site: Site) -> None:
        with pytest.raises(Missing):
            site.run(lambda g: g.update_team("nothing", max_budget=1))

    def test_members_come_and_go_and_again(self, site: Site, ann: str) -> None:
        async def move(g: Gateway) -> list[bool]:
            seen = []
            for act in (g.add_member, g.add_member, g.remove_member, g.remove_member):
                await act("green", ann)
                team = await g.get_team("green")
                assert team is not None
                seen.append(team.has_member(ann))
            return seen

        assert site.run(move) == [True, True, False, False]

    def test_adding_to_no_team(self, site: Site, ann: str) -> None:
        with pytest.raises(Missing):
            site.run(lambda g: g.add_member("nothing", ann))

    def test_removing_from_no_team_is_fine(self, site: Site, ann: str) -> None:
        site.run(lambda g: g.remove_member("nothing", ann))

    def test_removing_nobody_is_fine(self, site: Site, ann: str) -> None:
        site.run(lambda g: g.remove_member("red", "nobody"))

    def test_a_refusal_with_the_member_still_there_is_one(self, site: Site, ann: str) -> None:
        site.fault("/team/member_delete", status=400, body=json.dumps({"detail": {"error": "no"}}))
        with pytest.raises(Rejected):
            site.run(lambda g: g.remove_member("red", ann))


def reads(user_id: str) -> list[Callable[[Gateway], Awaitable[Any]]]:
    return [
        lambda g: g.get_user(user_id),
        lambda g: g.find_users(email="ann@corp.example"),
        lambda g: g.list_keys(user_id=user_id),
        lambda g: g.key_info("x"),
        lambda g: g.teams_of(user_id),
        lambda g: g.block_key("x"),
        lambda g: g.delete_keys(["x"]),
        lambda g: g.remove_member("red", user_id),
    ]


CLOUDFLARE = "<!DOCTYPE html><html><body>Bad gateway</body></html>"


class TestFaults:
    @pytest.mark.parametrize("number", range(8))
    @pytest.mark.parametrize(
        "rule",
        [
            {"status": 500},
            {"status": 500, "when": "after"},
            {"status": 502, "body": CLOUDFLARE, "content_type": "text/html"},
            {"status": 403, "body": CLOUDFLARE, "content_type": "text/html"},
            {"status": 404, "body": CLOUDFLARE, "content_type": "text/html"},
            {"status": 503},
            {"status": 302, "body": "", "headers": {"location": "http://127.0.0.1:9/"}},
            {"truncate": True},
            {"drop": "before"},
        ],
    )
    def test_no_fault_looks_like_gone(self, site: Site, ann: str, rule: dict[str, Any], number: int) -> None:
        site.fault("*", **rule)
        with pytest.raises(Transient):
            site.run(reads(ann)[number])

    @pytest.mark.parametrize("number", range(8))
    @pytest.mark.parametrize("body", ["", "OK", CLOUDFLARE, "[]", "7", '"x"', "null"])
    def test_a_200_that_is_no_answer(self, site: Site, ann: str, body: str, number: int) -> None:
        site.fault("*", status=200, body=body)
        if body == "[]" and number == 4:  # an empty list of teams is an answer
            assert site.run(reads(ann)[number]) == []
            return
        with pytest.raises(BadAnswer):
            site.run(reads(ann)[number])

    def test_500_before_the_write_changes_nothing_and_is_not_repeated(self, site: Site, ann: str) -> None:
        site.fault("/team/member_add", status=500, times=1)
        with pytest.raises(Transient):
            site.run(lambda g: g.add_member("green", ann))
        assert len(site.asked()) == 1

    def test_a_connection_that_dies_fresh_is_not_tried_again(self, site: Site, ann: str) -> None:
        site.fault("/key/info", drop="before", times=1)
        with pytest.raises(Transient):
            site.run(lambda g: g.key_info("x"))
        assert len(site.asked()) == 1

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_a_pooled_connection_that_dies_is_tried_once_more(self, site: Site, ann: str, when: str) -> None:
        site.fault("/team/member_add", drop=when, times=1)

        async def warm_then_add(g: Gateway) -> None:
            await g.get_user(ann)
            await g.add_member("green", ann)

        site.run(warm_then_add)
        assert site.asked() == ["GET /v2/user/info", "POST /team/member_add", "POST /team/member_add"]
        assert site.seen[1] == ("/team/member_add", "error")

    def test_twice_is_enough(self, site: Site, ann: str) -> None:
        site.fault("/team/member_add", drop="before")

        async def warm_then_add(g: Gateway) -> None:
            await g.get_user(ann)
            await g.add_member("green", ann)

        with pytest.raises(Transient):
            site.run(warm_then_add)
        assert len(site.asked()) == 3

    def test_creating_is_never_repeated(self, site: Site, ann: str) -> None:
        site.fault("/user/new", drop="after", times=1)
        site.fault("/team/new", drop="after", times=1)

        async def make(g: Gateway) -> None:
            await g.get_user(ann)
            with pytest.raises(Transient):
                await g.create_user(user_id="new")
            await g.get_user(ann)
            with pytest.raises(Transient):
                await g.create_team(team_id="new", alias="New")
            assert await g.get_user("new")
            assert await g.get_team("new")

        site.run(make)
        assert [line for line in site.asked() if line.endswith("/new")] == ["POST /user/new", "POST /team/new"]

    def test_a_deletion_that_was_done_but_dropped_is_fine_the_second_time(self, site: Site, ann: str) -> None:
        site.fault("/key/delete", drop="after", times=1)

        async def revoke(g: Gateway) -> list[Any]:
            await g.delete_keys([key.id for key in await g.list_keys(user_id=ann)])
            return await g.list_keys(user_id=ann)

        assert site.run(revoke) == []

    def test_hanging_ends_with_the_time_out(self, site: Site, ann: str) -> None:
        site.fault("/key/block", hang=True)
        with pytest.raises(Transient):
            site.run(lambda g: g.block_key("x"), timeout=0.2)

    def test_waiting_for_a_free_slot_is_not_part_of_the_time_out(self, site: Site, ann: str) -> None:
        site.fault("/key/info", delay=0.1)

        async def many(g: Gateway) -> list[Any]:
            return await asyncio.gather(*(g.key_info(str(n)) for n in range(12)))

        assert site.run(many, timeout=0.6, concurrency=1) == [None] * 12

    @pytest.mark.parametrize("header", ["7", "date"])
    def test_429_pauses_everything_until_then(self, site: Site, ann: str, header: str) -> None:
        when = header if header != "date" else "Fri, 15 Jan 2027 08:00:07 GMT"  # the manual clock's start, and 7 s
        site.fault("/key/info", status=429, headers={"retry-after": when}, times=1)

        async def patient(g: Gateway) -> None:
            with pytest.raises(Throttled) as caught:
                await g.key_info("x")
            assert caught.value.retry_after == 7
            site.clock.advance(6)
            with pytest.raises(Throttled):
                await g.get_user(ann)
            site.clock.advance(1)
            assert await g.get_user(ann)

        site.run(patient)
        assert len(site.asked()) == 2

    def test_a_rotated_admin_key_costs_one_call_a_minute(self, site: Site, ann: str) -> None:
        site.options(admin_key="sk-rotated-1")

        async def go_on(g: Gateway) -> None:
            for _ in range(20):
                with pytest.raises(AdminKeyRefused):
                    await g.get_user(ann)
            assert len(site.asked()) == 1
            site.clock.advance(60)
            for _ in range(20):
                with pytest.raises(AdminKeyRefused):
                    await g.list_keys(user_id=ann)
            assert len(site.asked()) == 2
            site.keys.append("sk-rotated-1")
            assert await g.get_user(ann)
            assert await g.list_keys(user_id=ann)

        site.run(go_on)

    def test_those_who_wait_see_that_the_key_was_refused(self, site: Site, ann: str) -> None:
        site.options(admin_key="sk-rotated-1")

        async def crowd(g: Gateway) -> list[Any]:
            return await asyncio.gather(*(g.key_info(str(n)) for n in range(30)), return_exceptions=True)

        assert {type(found) for found in site.run(crowd, concurrency=2)} == {AdminKeyRefused}
        assert len(site.asked()) <= 2

    def test_five_failures_then_one_call_a_second(self, site: Site, ann: str) -> None:
        site.fault("*", status=503, times=6)

        async def go_on(g: Gateway) -> None:
            for _ in range(30):
                with pytest.raises(Transient):
                    await g.get_user(ann)
            assert len(site.asked()) == 5
            site.clock.advance(1)
            with pytest.raises(Transient):
                await g.get_user(ann)
            site.clock.advance(1)
            assert await g.get_user(ann)

        site.run(go_on)
        assert len(site.asked()) == 7

    @pytest.mark.parametrize("key", ["", "  ", "sk-with\nnewline", "sk-ümlaut"])
    def test_no_usable_key_is_no_call(self, site: Site, key: str) -> None:
        site.keys.append(key)
        with pytest.raises(AdminKeyRefused):
            site.run(lambda g: g.get_user("x"))
        assert site.asked() == []

    def test_nobody_there(self) -> None:
        async def ask() -> None:
            settings = GatewaySettings("http://127.0.0.1:9", "litellm", timeout=2)
            async with Gateway(settings, lambda: "sk-x", SystemClock()) as g:
                with pytest.raises(Transient):
                    await g.get_user("x")

        asyncio.run(ask())


class TestReceipts:
    def test_every_call_is_written_down_also_from_tasks(self, site: Site, ann: str) -> None:
        async def revoke(g: Gateway) -> list[Call]:
            calls: list[Call] = []
            token = recorder.set(calls)
            try:
                await asyncio.gather(g.block_key("k1"), g.block_key("k2"), g.teams_of(ann))
            finally:
                recorder.reset(token)
            await g.get_user(ann)
            return calls

        calls = site.run(revoke)
        assert sorted((call.method, call.path, call.target, call.status) for call in calls) == [
            ("GET", "/team/list", "ann", 200),
            ("POST", "/key/block", "k1", 404),
            ("POST", "/key/block", "k2", 404),
        ]
        assert all(call.at == site.clock.now() for call in calls)

    def test_two_receipts_at_once_do_not_mix(self, site: Site, ann: str) -> None:
        async def one(g: Gateway, key: str) -> list[Call]:
            calls: list[Call] = []
            recorder.set(calls)
            await g.block_key(key)
            await g.key_info(key)
            return calls

        async def both(g: Gateway) -> list[list[Call]]:
            return list(await asyncio.gather(one(g, "k1"), one(g, "k2")))

        assert [{call.target for call in calls} for calls in site.run(both)] == [{"k1"}, {"k2"}]

    def test_no_answer_and_no_secret(self, site: Site, ann: str) -> None:
        site.fault("/key/block", drop="before")

        async def block(g: Gateway) -> list[Call]:
            calls: list[Call] = []
            recorder.set(calls)
            with pytest.raises(Transient) as caught:
                await g.block_key("sk-raw-secret-key")
            assert "sk-raw" not in str(caught.value)
            assert ADMIN_KEY not in repr(g) + str(caught.value) + repr(g.__dict__)
            return calls

        (call,) = site.run(block)
        assert (call.status, call.target) == (None, "***")
        assert site.seen == [("/key/block", "error")]

    def test_what_writes_says_who(self, site: Site) -> None:
        site.options(changed_by_header=True)
        site.run(lambda g: g.create_team(team_id="t", alias="T"), organization_id="org-default")
        assert site.log()[0]["status"] == 200


class TestProbe:
    def test_all_well(self, site: Site) -> None:
        found = site.run(lambda g: g.probe())
        assert (found["reachable"], found["admin_key"], found["problem"]) == (True, "accepted", None)
        assert found["openapi"] is True
        assert found["verbs"]["key_delete"] == ("POST" if site.dialect == "litellm" else "DELETE")

    def test_it_learns_from_the_gateways_own_description(self, site: Site) -> None:
        site.learned["key_delete"] = "DELETE" if site.dialect == "litellm" else "POST"
        site.run(lambda g: g.probe())
        assert site.learned["key_delete"] == ("POST" if site.dialect == "litellm" else "DELETE")
        assert {line.split()[0] for line in site.asked()} == {"GET"}

    def test_without_a_description(self, site: Site) -> None:
        site.fault("/openapi.json", status=404)
        found = site.run(lambda g: g.probe())
        assert (found["admin_key"], found["openapi"], found["problem"]) == ("accepted", False, None)

    def test_refused(self, site: Site) -> None:
        site.keys.append("sk-wrong-key")
        found = site.run(lambda g: g.probe())
        assert (found["reachable"], found["admin_key"]) == (True, "refused")

    def test_down(self, site: Site) -> None:
        site.fault("*", drop="before")
        found = site.run(lambda g: g.probe())
        assert (found["reachable"], found["admin_key"]) == (False, "unknown")


class TestTrial:
    def key(self, site: Site) -> tuple[str, str]:
        (seeded,) = site.seed(users=[{"user_id": "ann"}], keys=[{"user_id": "ann"}])
        return seeded["token"], seeded["key"]

    def test_it_works(self, site: Site) -> None:
        trial = asyncio.run(try_key(site.sandbox.url, self.key(site)[1]))
        assert (trial.status, trial.refused) == (200, False)

    def test_unknown(self, site: Site) -> None:
        trial = asyncio.run(try_key(site.sandbox.url, "sk-never-was-one"))
        assert (trial.status, trial.refused) == (401, True)

    def test_blocked_and_fenced_on_every_replica(self, site: Site) -> None:
        token, raw = self.key(site)
        site.run(lambda g: g.block_key(token))
        for url in site.sandbox.replica_urls:
            assert asyncio.run(try_key(url, raw)).refused

        async def fence(g: Gateway) -> None:
            await g.unblock_key(token)
            await g.update_user(user("ann"), metadata={"scim_active": False})

        site.run(fence)
        trial = asyncio.run(try_key(site.sandbox.url, raw))
        assert trial.refused
        assert raw not in trial.why

    def test_deleted_is_alive_on_a_replica_that_remembers(self, site: Site) -> None:
        token, raw = self.key(site)
        site.hook("warm", {})
        site.run(lambda g: g.delete_keys([token]))
        refused = [asyncio.run(try_key(url, raw)).refused for url in site.sandbox.replica_urls]
        assert True in refused
        assert False in refused, "that is why keys are blocked first"

    def test_a_401_of_a_gateway_without_its_database_proves_nothing(self, site: Site) -> None:
        _, raw = self.key(site)
        site.options(db_down=True)
        trial = asyncio.run(try_key(site.sandbox.url, raw))
        assert (trial.status, trial.refused) == (401, False)

    @pytest.mark.parametrize(
        "rule",
        [
            {"status": 401, "body": CLOUDFLARE},
            {"status": 401, "body": '{"detail": "expired"}'},
            {"status": 401, "body": ""},
            {"status": 403, "body": '{"error": {"type": "token_not_found_in_db", "message": ""}}'},
            {"status": 500},
            {"drop": "before"},
        ],
    )
    def test_nothing_else_does(self, site: Site, rule: dict[str, Any]) -> None:
        site.fault("/v1/models", **rule)
        trial = asyncio.run(try_key(site.sandbox.url, "sk-never-was-one", timeout=2))
        assert not trial.refused


def test_a_team_of_ten_thousand_is_read_and_changed(site: Site) -> None:
    """Rosters come whole, also in the answers to changes: what is read of those is more than of a key."""
    people = [f"00000000-0000-4000-8000-{number:012}" for number in range(10_000)]
    users = [{"user_id": one, "user_email": f"{one}@corp.example"} for one in people]
    site.seed(teams=[{"team_id": "big"}], users=users, members=[{"team_id": "big", "user_id": one} for one in people])

    async def change(g: Gateway) -> tuple[int, int]:
        await g.add_member("big", "zoe")
        joined = await g.get_team("big")
        await g.remove_member("big", "zoe")
        left = await g.get_team("big")
        assert joined is not None
        assert left is not None
        return len(joined.members), len(left.members)

    assert site.run(change) == (10_001, 10_000)
