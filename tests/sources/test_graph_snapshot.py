"""A snapshot of a tenant: who is in it and how they are shown, and every way in which there is none."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web

from idsync.errors import IncompleteSource, SourceRefused
from idsync.model import Observation
from idsync.snapshot import Snapshot
from sources.entra import Entra, entra, page, reply
from sources.tenant import Killed, Memory, Tenant, wanting

PRESENT, INACTIVE, UNKNOWN = Observation.PRESENT, Observation.INACTIVE, Observation.UNKNOWN
ALL = ["User.Read.All", "GroupMember.Read.All", "Application.Read.All"]


def test_members_of_nested_groups_and_their_state(tenant: Tenant) -> None:
    tenant.graph.seed(
        users=[
            {"userPrincipalName": "ann@example.com", "mail": "ann.a@example.com", "displayName": "Ann"},
            {"userPrincipalName": "bob@example.com", "accountEnabled": False},
            {"userPrincipalName": "cyd@example.com", "accountEnabled": None},
            {"userPrincipalName": "dan@example.com"},
        ],
        groups=[
            {"displayName": "inner", "members": ["bob@example.com", "cyd@example.com"]},
            {"displayName": "ai-eng", "members": ["ann@example.com", "inner"]},
            {"displayName": "other", "members": ["dan@example.com"]},
        ],
    )
    found = tenant.snapshot()
    assert found.groups.keys() == {tenant.id("ai-eng")}
    group = found.groups[tenant.id("ai-eng")]
    assert (group.display_name, group.members) == ("ai-eng", tenant.ids("ann", "bob", "cyd"))
    seen = {user.user_name: (user.observation, user.email) for user in found.users.values()}
    assert seen == {
        "ann@example.com": (PRESENT, "ann.a@example.com"),
        "bob@example.com": (INACTIVE, "bob@example.com"),
        "cyd@example.com": (UNKNOWN, "cyd@example.com"),
    }
    assert found.users[tenant.id("bob")].why == "accountEnabled=false"
    assert "User.Read.All" in found.users[tenant.id("cyd")].why
    assert found.at <= min(user.at for user in found.users.values())


@pytest.mark.parametrize(
    "shown",
    [
        {"accountEnabled": "true"},
        {"accountEnabled": 0},
        {"accountEnabled": []},
        {"userPrincipalName": None},
        {"userPrincipalName": 7},
    ],
)
def test_an_odd_record_is_unknown_and_fails_no_page(tenant: Tenant, shown: dict[str, Any]) -> None:
    tenant.company("ann", "bob")
    tenant.graph.act("odd", user=tenant.id("ann"), **shown)
    found = tenant.snapshot().users
    assert (found[tenant.id("ann")].observation, found[tenant.id("bob")].observation) == (UNKNOWN, PRESENT)


def test_without_user_read_all_everybody_is_unknown(tenant: Tenant) -> None:
    """Members are listed then, with nothing but their ids; the delta of users is refused."""
    tenant.company("ann", "bob")
    cursor = tenant.snapshot().cursor
    tenant.graph.options(roles=["GroupMember.Read.All"])
    tenant.graph.act("revoke_tokens")
    with pytest.raises(SourceRefused, match=r"grant User\.Read\.All"):
        tenant.snapshot()
    with pytest.raises(SourceRefused, match=r"grant User\.Read\.All"):
        tenant.changes(cursor)

    async def members(source: Any) -> Any:
        return await source._reader.members(tenant.id("ai-eng"), "ai-eng")

    assert {seen.observation for seen in tenant.run(members).rows.values()} == {UNKNOWN}


def test_a_group_is_wanted_by_exact_name_or_by_id(tenant: Tenant) -> None:
    """Two of one name are both shown; which of them is meant, a person decides."""
    groups = [{"displayName": name} for name in ("AI-Eng", "twice", "twice", "by-id", "ai-eng", "R&D / 100%")]
    ids = tenant.graph.seed(groups=groups)
    wanted = wanting("ai-eng", "R&D / 100%", "twice", "none", ids=[ids["by-id"]])
    found = tenant.run(lambda source: source.snapshot(wanted, tenant.parts))
    names = sorted(group.display_name for group in found.groups.values())
    assert names == ["R&D / 100%", "ai-eng", "by-id", "twice", "twice"]


def test_graph_compares_names_in_its_own_way() -> None:
    """It finds names without regard to case; and a quote in a name is no syntax."""
    asked: list[str] = []
    servers = Entra()

    def answer(request: web.Request) -> web.Response:
        asked.append(request.query.get("$filter", ""))
        if request.path.endswith("/delta"):
            return reply(page(delta=f"{servers.url}/v1.0/{request.path.split('/')[2]}/delta?$deltatoken=1"))
        rows = [{"id": f"g-{n}", "displayName": name} for n, name in enumerate(("O'NEILL", "o'neill", "O'Neill"))]
        return reply(page(*rows if request.path.endswith("/groups") else ()))

    async def ask() -> Snapshot:
        nonlocal servers
        async with entra(answer) as servers, servers.source() as source:
            return await source.snapshot(wanting("O'Neill"), Memory())

    assert asyncio.run(ask()).groups.keys() == {"g-2"}
    assert "displayName eq 'O''Neill'" in asked


def test_a_name_that_is_not_there_is_no_fault(tenant: Tenant) -> None:
    tenant.company("ann")
    assert tenant.snapshot("nobody-named-so").groups == {}


@pytest.mark.parametrize("gone", ["deleted", "re-created"])
def test_a_bound_group_that_is_not_shown(tenant: Tenant, gone: str) -> None:
    tenant.company("ann")
    bound = tenant.id("ai-eng")
    tenant.graph.act("delete_group" if gone == "deleted" else "recreate_group", group="ai-eng")
    with pytest.raises(IncompleteSource, match="idsync groups unbind") as refused:
        tenant.snapshot(bound=[bound])
    assert bound in str(refused.value)


def test_a_bound_group_that_idsync_may_not_see_any_more(tenant: Tenant) -> None:
    tenant.company("ann")
    tenant.graph.options(unseen_groups=["ai-eng"])
    with pytest.raises(SourceRefused):
        tenant.snapshot(bound=[tenant.id("ai-eng")])


def test_a_renamed_group_stays_bound(tenant: Tenant) -> None:
    tenant.company("ann")
    tenant.graph.act("rename_group", group="ai-eng", displayName="ai-engineering")
    found = tenant.snapshot(bound=[tenant.id("ai-eng")]).groups[tenant.id("ai-eng")]
    assert (found.display_name, found.members) == ("ai-engineering", tenant.ids("ann"))


@pytest.mark.parametrize("hidden", ["ai-eng", "inner"])
def test_hidden_members(tenant: Tenant, hidden: str) -> None:
    tenant.company("ann", group="inner")
    tenant.graph.seed(groups=[{"displayName": "ai-eng", "members": ["inner"]}])
    tenant.graph.act("hide_group", group=hidden)
    with pytest.raises(IncompleteSource, match=r"grant Member\.Read\.Hidden"):
        tenant.snapshot()
    tenant.graph.options(roles=[*ALL, "Member.Read.Hidden"])
    tenant.graph.act("revoke_tokens")
    assert tenant.snapshot().groups[tenant.id("ai-eng")].members == tenant.ids("ann")


# -- while it goes on -------------------------------------------------------------------------------------------------


def test_people_come_and_go_while_they_are_listed(tenant: Tenant) -> None:
    """One leaves between two pages, so that fewer come than were counted: the listing is read once more."""
    tenant.crowd(1200)
    path = f"/v1.0/groups/{tenant.id('ai-eng')}/transitiveMembers/microsoft.graph.user"
    leave = {"do": "leave", "group": "ai-eng", "member": "p1100@example.com"}
    tenant.graph.break_with(path, page=1, times=1, delay=0.001, then=leave)
    found = tenant.snapshot()
    assert len(found.users) == 1199
    assert tenant.changes(found.cursor).groups.keys() == {tenant.id("ai-eng")}


def test_what_changes_during_a_listing_is_told_afterwards(tenant: Tenant) -> None:
    """The cursor is taken before anything is listed."""
    tenant.company("ann", "bob")
    path = f"/v1.0/groups/{tenant.id('ai-eng')}/transitiveMembers/microsoft.graph.user"
    tenant.graph.break_with(path, times=1, delay=0.001, then={"do": "disable", "user": "bob@example.com"})
    found = tenant.snapshot()
    assert found.users[tenant.id("bob")].observation is PRESENT
    assert tenant.changes(found.cursor).users[tenant.id("bob")].observation is INACTIVE


FAULTS: list[dict[str, Any]] = [
    {"status": 403},
    {"status": 500},
    {"html": True},
    {"damage": "json"},
    {"damage": "splice"},
    {"next": "foreign"},
]


def test_every_listing_is_watched(tenant: Tenant) -> None:
    """The other listings of a pass: groups by name, nested groups, delta rounds, assignments, users."""
    tenant.company("ann")
    tenant.graph.seed(servicePrincipals=[{"displayName": "gateway", "assigned": ["ai-eng"]}])
    app = tenant.id("gateway")
    group = tenant.id("ai-eng")
    for path in (
        "/v1.0/groups",
        f"/v1.0/groups/{group}/members/microsoft.graph.group",
        f"/v1.0/groups/{group}/members/microsoft.graph.user",
        f"/v1.0/servicePrincipals/{app}/appRoleAssignedTo",
        "/v1.0/users/delta",
        "/v1.0/groups/delta",
    ):
        for fault in FAULTS:
            tenant.graph.break_with(path, **fault)
            tenant.parts.clear()
            with pytest.raises(IncompleteSource):
                tenant.snapshot(app_id=app)
            assert tenant.graph.fired(), (path, fault)
            tenant.graph.mend()
    assert tenant.snapshot(app_id=app).users.keys() == tenant.ids("ann")


# -- who is assigned to the application -------------------------------------------------------------------------------


@pytest.fixture
def app(tenant: Tenant) -> str:
    """Ann is assigned by herself, Bob through a group, Cyd through a group within it; Dan is not; Eve has no team."""
    people = ("ann", "bob", "cyd", "dan", "eve")
    ids = tenant.graph.seed(
        users=[{"userPrincipalName": f"{one}@example.com"} for one in people],
        groups=[
            {"displayName": "inner", "members": ["cyd@example.com"]},
            {"displayName": "staff", "members": ["bob@example.com", "inner"]},
            {"displayName": "ai-eng", "members": [f"{one}@example.com" for one in people[:4]]},
        ],
        servicePrincipals=[{"displayName": "gateway", "assigned": ["ann@example.com", "eve@example.com", "staff"]}],
    )
    return str(ids["gateway"])


def test_only_who_is_assigned_counts(tenant: Tenant, app: str) -> None:
    found = tenant.snapshot(app_id=app)
    assert found.users.keys() == tenant.ids("ann", "bob", "eve")
    assert found.groups[tenant.id("ai-eng")].members == tenant.ids("ann", "bob")
    assert tenant.snapshot().users.keys() == tenant.ids("ann", "bob", "cyd", "dan")


@pytest.mark.parametrize("bad", ["nobody", "unknown", "unseen"])
def test_an_application_that_nobody_is_assigned_to_removes_nobody(tenant: Tenant, app: str, bad: str) -> None:
    if bad == "nobody":
        for one in ("ann@example.com", "eve@example.com", "staff"):
            tenant.graph.act("unassign", principal="gateway", to=one)
    if bad == "unseen":
        tenant.graph.options(unseen_groups=["staff"])
    with pytest.raises(IncompleteSource):
        tenant.snapshot(app_id="11111111-2222-4333-8444-555555555555" if bad == "unknown" else app)


def test_many_assigned_directly_are_listed(tenant: Tenant) -> None:
    tenant.graph.seed(many={"users": 2500, "groups": 2, "memberships": 600, "app": "gateway"})
    found = tenant.snapshot("team-0001", app_id=tenant.id("gateway"))
    assert len(found.users) == 2500
    assert {seen.observation for seen in found.users.values()} == {PRESENT}


# -- going on after a restart -----------------------------------------------------------------------------------------


def test_a_listing_goes_on_after_a_kill(tenant: Tenant) -> None:
    """Groups that were read before are not read again, and the cursor is still the one from before the first of them."""
    tenant.graph.seed(many={"users": 60, "groups": 12, "memberships": 240})
    names = [f"team-{number:04d}" for number in range(1, 13)]
    whole = tenant.snapshot(*names)
    tenant.asked()
    tenant.parts.fails_after = 7
    with pytest.raises(Killed):
        tenant.snapshot(*names, concurrency=1)
    tenant.parts.fails_after = -1
    tenant.graph.act("disable", user="p0000001@example.com")
    before = [path for path in tenant.asked() if path.endswith(".user")]
    found = tenant.snapshot(*names)
    after = tenant.asked()
    assert len([path for path in after if path.endswith(".user")]) == 12 - 6
    assert len(before) == 7
    assert not [path for path in after if path.endswith("/delta")]
    assert (found.users.keys(), found.groups.keys()) == (whole.users.keys(), whole.groups.keys())
    assert {id_: group.members for id_, group in found.groups.items()} == {
        id_: group.members for id_, group in whole.groups.items()
    }
    assert tenant.changes(found.cursor, *names).users.keys() == tenant.ids("p0000001")
    tenant.asked()
    tenant.snapshot(*names)
    assert len([path for path in tenant.asked() if path.endswith(".user")]) == 12


@pytest.mark.parametrize("spoiled", ["", "other groups", "too old", "unreadable"])
def test_parts_that_do_not_fit_are_read_again(tenant: Tenant, spoiled: str) -> None:
    tenant.company("ann", "bob")
    tenant.graph.seed(groups=[{"displayName": "more", "members": ["ann@example.com"]}])
    tenant.parts.fails_after = 3
    with pytest.raises(Killed):
        tenant.snapshot("ai-eng", "more")
    tenant.parts.fails_after = -1
    tenant.graph.act("leave", group="ai-eng", member="bob@example.com")
    if spoiled == "unreadable":
        tenant.parts |= {name: told.replace('"seen"', '"sown"') for name, told in tenant.parts.items()}
    if spoiled == "too old":
        began = json.loads(tenant.parts["began"])
        tenant.parts["began"] = json.dumps(began | {"at": began["at"] - 7 * 3600})
    names = ["ai-eng"] if spoiled == "other groups" else ["ai-eng", "more"]
    found = tenant.snapshot(*names)
    assert found.groups[tenant.id("ai-eng")].members == tenant.ids("ann", *([] if spoiled else ["bob"]))


def test_progress_is_told(tenant: Tenant) -> None:
    tenant.graph.seed(many={"users": 30, "groups": 3, "memberships": 60})
    tenant.snapshot("team-0001", "team-0002", "team-0003")
    assert [told for told in tenant.told if told[0] == "groups"] == [("groups", n, 3) for n in range(4)]
    assert tenant.told[-1][0] == "users"


def test_a_pass_stays_under_half_of_what_the_tenant_has(tenant: Tenant) -> None:
    """300 groups cost 2,100 units, a small tenant has 3,500: idsync waits by itself and is never refused."""
    tenant.graph.seed(many={"users": 30, "groups": 300, "memberships": 300})
    tenant.graph.options(units=3500)
    tenant.snapshot(*[f"team-{number:04d}" for number in range(1, 301)])
    assert tenant.slept
    assert not [code for _, code in tenant.seen if code != "200"]
    assert tenant.seen.count(("$batch", "200")) == 30
    assert tenant.seen.count(("groups/transitiveMembers", "200")) == 300
