"""What has changed in a tenant since a snapshot, and every way in which nothing may be made of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from idsync.errors import CursorLost, IncompleteSource
from idsync.model import Observation
from idsync.snapshot import Changes
from sources.tenant import Tenant

PRESENT, INACTIVE = Observation.PRESENT, Observation.INACTIVE


@pytest.fixture
def cursor(tenant: Tenant) -> str:
    """A company that was listed: Ann, Bob and Cyd, of whom Cyd is in a nested group."""
    tenant.graph.seed(
        users=[{"userPrincipalName": f"{one}@example.com"} for one in ("ann", "bob", "cyd", "dan")],
        groups=[
            {"displayName": "inner", "members": ["cyd@example.com"]},
            {"displayName": "ai-eng", "members": ["ann@example.com", "bob@example.com", "inner"]},
            {"displayName": "unmapped", "members": ["dan@example.com"]},
        ],
    )
    return tenant.snapshot(bound=[tenant.id("ai-eng")]).cursor


def members(tenant: Tenant, changes: Changes, group: str = "ai-eng") -> frozenset[str]:
    return changes.groups[tenant.id(group)].members


def test_nothing_has_changed(tenant: Tenant, cursor: str) -> None:
    tenant.asked()
    changes = tenant.changes(cursor)
    assert (changes.users, changes.groups, changes.look_up, changes.more) == ({}, {}, frozenset(), False)
    assert len(tenant.asked()) == 2
    assert tenant.changes(changes.cursor).users == {}


@pytest.mark.parametrize("noise", [0, 1, 2, 3])
def test_all_kinds_of_changes_at_once(tenant: Tenant, cursor: str, noise: int) -> None:
    """Items repeat and come in any order."""
    act = tenant.graph.act
    tenant.graph.options(delta_noise=noise)
    ids = tenant.ids("ann", "bob", "cyd", "dan")
    act("disable", user="ann@example.com")
    act("change_user", user="bob@example.com", mail="b@example.com")
    act("soft_delete", user="cyd@example.com")
    act("hard_delete", user="dan@example.com")
    act("create_user", userPrincipalName="eve@example.com")
    act("join", group="ai-eng", member="eve@example.com")
    changes = tenant.changes(cursor)
    assert changes.users[tenant.id("ann")].observation is INACTIVE
    assert changes.users[tenant.id("bob")].email == "b@example.com"
    assert changes.look_up == tenant.ids("cyd", "dan")
    assert not changes.look_up & changes.users.keys()
    (eve,) = members(tenant, changes) - ids
    assert changes.users[eve].user_name == "eve@example.com"
    assert tenant.changes(changes.cursor).users == {}


@pytest.mark.parametrize(
    ("what", "left"),
    [
        ({"do": "leave", "group": "ai-eng", "member": "bob@example.com"}, {"ann", "cyd"}),
        ({"do": "join", "group": "ai-eng", "member": "dan@example.com"}, {"ann", "bob", "cyd", "dan"}),
        ({"do": "leave", "group": "inner", "member": "cyd@example.com"}, {"ann", "bob"}),
        ({"do": "join", "group": "inner", "member": "dan@example.com"}, {"ann", "bob", "cyd", "dan"}),
        ({"do": "leave", "group": "ai-eng", "member": "inner"}, {"ann", "bob"}),
        ({"do": "join", "group": "ai-eng", "member": "unmapped"}, {"ann", "bob", "cyd", "dan"}),
        ({"do": "join", "group": "inner", "member": "unmapped"}, {"ann", "bob", "cyd", "dan"}),
        ({"do": "delete_group", "group": "inner"}, {"ann", "bob"}),
        ({"do": "rename_group", "group": "ai-eng", "displayName": "ai-engineering"}, {"ann", "bob", "cyd"}),
    ],
    ids=lambda value: " ".join(sorted(value) if isinstance(value, set) else map(str, value.values())),
)
def test_a_group_that_changed_is_read_again_in_full(
    tenant: Tenant, cursor: str, what: dict[str, Any], left: set[str]
) -> None:
    tenant.graph.act(**what)
    changes = tenant.changes(cursor, bound=[tenant.id("ai-eng")])
    assert members(tenant, changes) == tenant.ids(*left)
    assert changes.users.keys() == tenant.ids(*left)
    assert changes.groups[tenant.id("ai-eng")].at >= changes.at


def test_what_is_nested_is_followed_from_change_to_change(tenant: Tenant, cursor: str) -> None:
    tenant.graph.act("join", group="inner", member="unmapped")
    cursor = tenant.changes(cursor).cursor
    tenant.graph.act("leave", group="unmapped", member="dan@example.com")
    changes = tenant.changes(cursor)
    assert members(tenant, changes) == tenant.ids("ann", "bob", "cyd")
    tenant.graph.act("leave", group="ai-eng", member="inner")
    cursor = tenant.changes(changes.cursor).cursor
    tenant.graph.act("join", group="inner", member="dan@example.com")
    assert tenant.changes(cursor).groups == {}


def test_a_wanted_name_that_appears(tenant: Tenant, cursor: str) -> None:
    """Made, or renamed to it; and a group that nobody wants says nothing."""
    cursor = tenant.snapshot("ai-eng", "late").cursor
    tenant.graph.act("rename_group", group="unmapped", displayName="late")
    tenant.graph.act("create_group", displayName="noise", members=["ann@example.com"])
    changes = tenant.changes(cursor, "ai-eng", "late")
    assert changes.groups.keys() == tenant.ids("unmapped")
    assert members(tenant, changes, "unmapped") == tenant.ids("dan")
    tenant.graph.act("leave", group="late", member="dan@example.com")
    later = tenant.changes(changes.cursor, "ai-eng", "late", bound=tenant.ids("ai-eng", "unmapped"))
    assert members(tenant, later, "unmapped") == frozenset()


def test_a_bound_group_that_is_deleted_keeps_its_people(tenant: Tenant, cursor: str) -> None:
    """The changes of everybody else are told all the same; the next full pass is incomplete and says what to do."""
    bound = [tenant.id("ai-eng")]
    tenant.graph.act("delete_group", group="ai-eng")
    tenant.graph.act("disable", user="ann@example.com")
    changes = tenant.changes(cursor, bound=bound)
    assert changes.groups == {}
    assert changes.users.keys() == tenant.ids("ann")
    assert tenant.changes(changes.cursor, bound=bound).groups == {}
    with pytest.raises(IncompleteSource, match="idsync groups unbind"):
        tenant.snapshot(bound=bound)


def test_a_group_that_becomes_hidden(tenant: Tenant, cursor: str) -> None:
    tenant.graph.act("hide_group", group="ai-eng")
    tenant.graph.act("leave", group="ai-eng", member="bob@example.com")
    with pytest.raises(IncompleteSource, match=r"grant Member\.Read\.Hidden"):
        tenant.changes(cursor)


@pytest.mark.parametrize("shown", [{"accountEnabled": None}, {"accountEnabled": "false"}, {"userPrincipalName": None}])
def test_what_a_change_does_not_say_is_looked_up(tenant: Tenant, cursor: str, shown: dict[str, Any]) -> None:
    tenant.graph.act("odd", user="ann@example.com", **shown)
    changes = tenant.changes(cursor)
    assert (changes.users, changes.look_up) == ({}, tenant.ids("ann"))


# -- a cursor that is of no use ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("answered", [410, 400])
@pytest.mark.parametrize("how", ["old", "forgotten"])
def test_graph_has_forgotten_where_we_were(tenant: Tenant, cursor: str, how: str, answered: int) -> None:
    tenant.graph.options(expired_delta=answered)
    if how == "old":
        tenant.graph.move_clock(8 * 86400)
    else:
        tenant.graph.act("forget_deltas")
    with pytest.raises(CursorLost):
        tenant.changes(cursor)
    assert tenant.changes(tenant.snapshot().cursor).users == {}


@pytest.mark.parametrize(("status", "code"), [(404, "syncStateNotFound"), (400, "Directory_ExpiredPageToken")])
def test_other_words_for_it(tenant: Tenant, cursor: str, status: int, code: str) -> None:
    tenant.answer_with("/v1.0/groups/delta", {"error": {"code": code, "message": "..."}}, status)
    with pytest.raises(CursorLost):
        tenant.changes(cursor)


def test_a_cursor_for_something_else(tenant: Tenant, cursor: str) -> None:
    """It remembers settings and wanted groups; bindings that were made since do not matter, others do."""
    ai, other = tenant.id("ai-eng"), tenant.id("unmapped")
    assert tenant.changes(cursor, bound=[ai]).users == {}
    others: list[tuple[str, tuple[str, ...], dict[str, Any]]] = [
        (cursor, ("ai-eng", "more"), {}),
        (cursor, (), {"bound": [ai, other]}),
        (cursor, (), {"app_id": "another"}),
        (cursor, (), {"tenant_id": "other.example.com"}),
        ("", (), {}),
        ("[]", (), {}),
        (cursor[:-2], (), {}),
    ]
    for written, names, changed in others:
        with pytest.raises(CursorLost):
            tenant.changes(written, *names, **changed)


def test_a_cursor_leads_nowhere_else(tenant: Tenant, cursor: str) -> None:
    told = json.loads(cursor)
    for key in ("users", "groups"):
        with pytest.raises(IncompleteSource):
            tenant.changes(json.dumps(told | {key: "https://graph.example.com/v1.0/users/delta?$deltatoken=1"}))


def test_a_round_that_is_none(tenant: Tenant, cursor: str) -> None:
    """It has to end with one link, and with nothing but changes; an error may come with a 200."""
    good = {"@odata.deltaLink": f"{tenant.graph.graph_url}/v1.0/users/delta?$deltatoken=1"}
    odd: list[dict[str, Any]] = [
        {},
        {"@odata.deltaLink": ""},
        {"@odata.deltaLink": 7},
        {"@odata.nextLink": None},
        {**good, "@odata.nextLink": good["@odata.deltaLink"]},
        {**good, "error": {"code": "InternalServerError"}},
        {**good, "value": None},
        {**good, "value": [{"id": "u", "members@delta": {}}]},
    ]
    for told in odd:
        tenant.answer_with("/v1.0/users/delta", {"value": [], **told})
        with pytest.raises(IncompleteSource) as failed:
            tenant.changes(cursor)
        assert type(failed.value) is IncompleteSource, told
        tenant.graph.mend()


def test_what_contradicts_itself_is_looked_up(tenant: Tenant, cursor: str) -> None:
    """Items come in any order, so neither of two is the newer one."""
    rows = [{"id": "u-1", "userPrincipalName": "u@example.com", "accountEnabled": on} for on in (False, True)]
    link = f"{tenant.graph.graph_url}/v1.0/users/delta?$deltatoken=1"
    tenant.answer_with("/v1.0/users/delta", {"value": rows, "@odata.deltaLink": link})
    changes = tenant.changes(cursor)
    assert (changes.users, changes.look_up) == ({}, frozenset({"u-1"}))


def test_odd_groups_are_nobodys(tenant: Tenant, cursor: str) -> None:
    """A name that is none, and a group that was renamed twice within a round: one of the names may be wanted."""
    ai = tenant.id("ai-eng")
    rows = [{"id": "g-1", "displayName": ["ai-eng"]}, {"id": tenant.id("unmapped"), "displayName": "a"}]
    rows += [{"id": tenant.id("unmapped"), "displayName": name} for name in ("ai-eng", "b")]
    link = f"{tenant.graph.graph_url}/v1.0/groups/delta?$deltatoken=1"
    tenant.answer_with("/v1.0/groups/delta", {"value": rows, "@odata.deltaLink": link})
    assert tenant.changes(cursor, bound=[ai]).groups == {}
    tenant.graph.act("rename_group", group="unmapped", displayName="ai-eng")
    assert tenant.changes(cursor, bound=[ai]).groups.keys() == tenant.ids("unmapped")


# -- the application's assignments ------------------------------------------------------------------------------------


@pytest.fixture
def app(tenant: Tenant, cursor: str) -> str:
    """Ann is assigned by herself; Bob through the group that gives the team; Dan through another."""
    assigned = ["ann@example.com", "ai-eng", "unmapped"]
    tenant.graph.seed(servicePrincipals=[{"displayName": "gateway", "assigned": assigned}])
    return tenant.id("gateway")


def test_a_quiet_round_with_assignments(tenant: Tenant, app: str) -> None:
    found = tenant.snapshot(app_id=app)
    assert found.users.keys() == tenant.ids("ann", "bob", "dan")
    tenant.asked()
    assert tenant.changes(found.cursor, app_id=app).look_up == frozenset()
    assert len(tenant.asked()) == 3


def test_assignments_that_change_need_a_snapshot(tenant: Tenant, app: str) -> None:
    cursor = tenant.snapshot(app_id=app).cursor
    tenant.graph.act("unassign", principal="gateway", to="unmapped")
    with pytest.raises(CursorLost, match="assignments"):
        tenant.changes(cursor, app_id=app)


def test_members_of_assigned_groups(tenant: Tenant, app: str) -> None:
    """Who leaves a group that only assigns is looked up; a group that gives a team shows only who is assigned."""
    cursor = tenant.snapshot(app_id=app).cursor
    tenant.graph.act("leave", group="unmapped", member="dan@example.com")
    tenant.graph.act("create_user", userPrincipalName="eve@example.com")
    tenant.graph.act("join", group="inner", member="eve@example.com")
    changes = tenant.changes(cursor, app_id=app)
    assert changes.look_up == tenant.ids("dan")
    assert members(tenant, changes) == tenant.ids("ann", "bob")


def test_most_assignments_are_left_to_the_full_pass(tenant: Tenant) -> None:
    """A round stays at four requests, however many are assigned one by one."""
    tenant.graph.seed(many={"users": 2100, "groups": 1, "memberships": 10, "app": "gateway"})
    app = tenant.id("gateway")
    cursor = tenant.snapshot("team-0001", app_id=app).cursor
    tenant.asked()
    tenant.changes(cursor, "team-0001", app_id=app)
    assert len(tenant.asked()) == 2


def test_there_is_no_log_here(tenant: Tenant) -> None:
    async def events(source: Any) -> Changes:
        found: Changes = await source.events("")
        return found

    assert tenant.run(events).look_up == frozenset()
    assert tenant.asked() == []
