"""One user by id: what Graph says of them, and what it takes to say that there is none; and the permissions."""

from __future__ import annotations

from typing import Any

import pytest

from idsync.clock import ManualClock
from idsync.errors import IncompleteSource, SourceRefused
from idsync.model import Observation
from idsync.sources.graph.source import GraphSource
from sources.tenant import Memory, Tenant, wanting

PRESENT, INACTIVE, ABSENT, UNKNOWN = (
    Observation.PRESENT,
    Observation.INACTIVE,
    Observation.ABSENT,
    Observation.UNKNOWN,
)


@pytest.fixture
def ann(tenant: Tenant) -> str:
    tenant.company("ann", "bob", group="inner")
    tenant.graph.seed(groups=[{"displayName": "ai-eng", "members": ["inner"]}, {"displayName": "ops"}])
    return tenant.id("ann")


@pytest.mark.parametrize(
    ("act", "observation", "why"),
    [
        ({"do": "enable"}, PRESENT, "accountEnabled=true"),
        ({"do": "disable"}, INACTIVE, "accountEnabled=false"),
        ({"do": "change_user", "accountEnabled": None}, UNKNOWN, "User.Read.All"),
        ({"do": "odd", "accountEnabled": "false"}, UNKNOWN, "User.Read.All"),
        ({"do": "soft_delete"}, INACTIVE, "soft-deleted"),
        ({"do": "hard_delete"}, ABSENT, "404 Request_ResourceNotFound"),
    ],
    ids=str,
)
def test_what_becomes_of_somebody(
    tenant: Tenant, ann: str, act: dict[str, Any], observation: Observation, why: str
) -> None:
    tenant.graph.act(user=ann, **act)
    look = tenant.look(ann)
    assert (look.user.external_id, look.user.observation) == (ann, observation)
    assert why in look.user.why


@pytest.mark.parametrize(
    "body", [{}, [], {"error": {"code": "ResourceNotFound"}}, {"error": "Request_ResourceNotFound"}], ids=str
)
def test_a_404_that_is_not_graphs_own_is_unknown(tenant: Tenant, ann: str, body: Any) -> None:
    tenant.answer_with(f"/v1.0/users/{ann}", body, 404)
    assert tenant.look(ann).user.observation is UNKNOWN


@pytest.mark.parametrize(
    ("status", "body"), [(403, {}), (500, {}), (404, {}), (200, {"id": "x"}), (200, {}), (200, [])]
)
def test_without_the_recycle_bin_nobody_is_absent(tenant: Tenant, ann: str, status: int, body: Any) -> None:
    tenant.graph.act("hard_delete", user=ann)
    tenant.answer_with("/v1.0/directory/*", body, status)
    with pytest.raises(IncompleteSource):
        tenant.look(ann)


def test_a_404_soon_after_somebody_appeared(tenant: Tenant) -> None:
    """Not every copy of the directory has heard of them yet, unless Graph itself says that they were removed."""
    clock = tenant.clock = ManualClock(2_000_000_000.0)
    tenant.company("ann", "bob")
    new: dict[str, str] = {}

    async def story(source: GraphSource) -> list[Observation]:
        seen = []

        async def look(name: str) -> None:
            seen.append((await source.look_up(new[name], ())).user.observation)

        await source.snapshot(wanting("ai-eng"), Memory())
        for name in ("cyd", "dan"):
            new[name] = tenant.graph.act("create_user", userPrincipalName=f"{name}@example.com")["id"]
            tenant.graph.act("join", group="ai-eng", member=f"{name}@example.com")
        found = await source.snapshot(wanting("ai-eng"), Memory())
        clock.advance(1800)
        tenant.graph.act("hard_delete", user="cyd@example.com")
        await look("cyd")
        await source.changes(wanting("ai-eng"), found.cursor)
        await look("cyd")
        cursor = (await source.snapshot(wanting("ai-eng"), Memory())).cursor
        tenant.graph.act("hard_delete", user="dan@example.com")
        await look("dan")
        clock.advance(1801)
        await look("dan")
        assert (await source.changes(wanting("ai-eng"), cursor)).look_up == {*new.values()}
        return seen

    assert tenant.run(story) == [UNKNOWN, ABSENT, UNKNOWN, ABSENT]


def test_who_was_removed_is_looked_up_again_for_an_hour(tenant: Tenant) -> None:
    """By id, some copy of the directory may still show them."""
    clock = tenant.clock = ManualClock(2_000_000_000.0)
    tenant.company("ann", "bob")

    async def story(source: GraphSource) -> list[frozenset[str]]:
        cursor = (await source.snapshot(wanting("ai-eng"), Memory())).cursor
        tenant.graph.act("soft_delete", user="ann@example.com")
        told = []
        for wait in (60, 60, 3600):
            changes = await source.changes(wanting("ai-eng"), cursor)
            told.append(changes.look_up)
            cursor = changes.cursor
            clock.advance(wait)
        told.append((await source.changes(wanting("ai-eng"), cursor)).look_up)
        tenant.graph.act("restore", user="ann@example.com")
        told.append((await source.changes(wanting("ai-eng"), cursor)).look_up)
        return told

    one = frozenset(tenant.ids("ann"))
    assert tenant.run(story) == [one, one, one, frozenset(), frozenset()]


def test_groups_of_somebody(tenant: Tenant, ann: str) -> None:
    """Nested ones too, and only those that were asked for."""
    ai, ops, inner = tenant.id("ai-eng"), tenant.id("ops"), tenant.id("inner")
    assert tenant.look(ann).groups == frozenset()
    assert tenant.look(ann, ops).groups == frozenset()
    assert tenant.look(ann, ai, ops).groups == frozenset({ai})
    tenant.graph.act("leave", group="inner", member="ann@example.com")
    assert tenant.look(ann, ai, inner).groups == frozenset()


def test_many_groups_in_few_requests(tenant: Tenant) -> None:
    tenant.graph.seed(many={"users": 3, "groups": 45, "memberships": 45})
    all_groups = [ref for name, ref in tenant.graph.ids.items() if name.startswith("team")]
    tenant.asked()
    look = tenant.look(tenant.id("p0000001"), *all_groups)
    assert look.groups == frozenset(ref for n, ref in enumerate(all_groups) if n % 3 == 0)
    assert len(tenant.asked()) == 1 + 3 + 1


@pytest.mark.parametrize("unreadable", ["deleted", "hidden", "forbidden"])
def test_a_group_that_cannot_be_read_says_nothing(tenant: Tenant, ann: str, unreadable: str) -> None:
    """Graph leaves it out of its answer, which is not to say that somebody is not in it."""
    if unreadable == "deleted":
        tenant.graph.act("delete_group", group="ops")
    if unreadable == "hidden":
        tenant.graph.act("hide_group", group="ops")
    if unreadable == "forbidden":
        tenant.graph.options(unseen_groups=["ops"])
        with pytest.raises(SourceRefused):
            tenant.look(ann, tenant.id("ai-eng"), tenant.id("ops"))
        return
    assert tenant.look(ann, tenant.id("ai-eng"), tenant.id("ops")).groups is None


@pytest.mark.parametrize(
    "body", [{}, {"value": None}, {"value": [1]}, {"value": [], "error": {}}, [], {"value": {}}], ids=str
)
def test_odd_words_about_groups(tenant: Tenant, ann: str, body: Any) -> None:
    tenant.answer_with(f"/v1.0/users/{ann}/checkMemberGroups", body)
    with pytest.raises(IncompleteSource) as failed:
        tenant.look(ann, tenant.id("ai-eng"))
    assert type(failed.value) is IncompleteSource


def test_without_an_assignment_no_group_counts(tenant: Tenant, ann: str) -> None:
    """Ann is assigned through her group; members of a group within an assigned one are not (learn.microsoft.com)."""
    ai = tenant.id("ai-eng")
    tenant.graph.seed(servicePrincipals=[{"displayName": "gateway", "assigned": ["ai-eng", "bob@example.com"]}])
    app = tenant.id("gateway")
    assert tenant.look(ann, ai, app_id=app).groups == frozenset()
    assert tenant.look(tenant.id("bob"), ai, app_id=app).groups == frozenset({ai})
    tenant.graph.act("assign", principal="gateway", to="inner")
    assert tenant.look(ann, ai, app_id=app).groups == frozenset({ai})
    for one in ("inner", "ai-eng", "bob@example.com"):
        tenant.graph.act("unassign", principal="gateway", to=one)
    with pytest.raises(IncompleteSource, match="nobody is assigned"):
        tenant.look(ann, ai, app_id=app)


# -- permissions ------------------------------------------------------------------------------------------------------

ALL = ["User.Read.All", "GroupMember.Read.All", "Application.Read.All"]


@pytest.mark.parametrize("missing", [None, *ALL])
def test_each_permission_is_tried(tenant: Tenant, ann: str, missing: str | None) -> None:
    tenant.graph.seed(servicePrincipals=[{"displayName": "gateway", "assigned": ["ai-eng"]}])
    tenant.graph.options(roles=[role for role in ALL if role != missing])
    rows = tenant.run(lambda source: source.check(), app_id=tenant.id("gateway"))
    assert [row[0] for row in rows] == ["credential", *ALL]
    assert [row[0] for row in rows if not row[1]] == ([missing] if missing else [])
    assert all(f"grant {missing}" in row[2] for row in rows if not row[1])


def test_application_read_all_is_not_asked_for_in_vain(tenant: Tenant, ann: str) -> None:
    tenant.graph.options(roles=ALL[:2])
    assert [row[:2] for row in tenant.run(lambda source: source.check())] == [
        ("credential", True),
        ("User.Read.All", True),
        ("GroupMember.Read.All", True),
    ]


def test_hidden_members_need_a_permission_of_their_own(tenant: Tenant, ann: str) -> None:
    tenant.graph.act("hide_group", group="inner")

    async def check(source: GraphSource) -> list[tuple[str, bool, str]]:
        with pytest.raises(IncompleteSource):
            await source.snapshot(wanting("inner"), Memory())
        return await source.check()

    name, good, words = tenant.run(check)[-1]
    assert (name, good) == ("Member.Read.Hidden", False)
    assert "Member.Read.Hidden" in words


def test_a_credential_that_is_not_accepted_is_all_there_is_to_say(tenant: Tenant) -> None:
    tenant.graph.options(clients=[{"client_id": tenant.settings().client_id, "secrets": [{"value": "another"}]}])
    ((name, good, words),) = tenant.run(lambda source: source.check())
    assert (name, good) == ("credential", False)
    assert "AADSTS7000215" in words
