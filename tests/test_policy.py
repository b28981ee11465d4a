"""Policy is a table: what is known of a person goes in, what they may have comes out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idsync.model import Access, Evidence, GivenRole, Observation, Standing
from idsync.policy import (
    MANUAL,
    Bound,
    GroupSpec,
    Protection,
    Record,
    Rule,
    Rules,
    decide,
    protection,
    role_to_set,
    team_role_to_set,
)

PRESENT, INACTIVE, ABSENT = Observation.PRESENT, Observation.INACTIVE, Observation.ABSENT
SUSPENDED, UNKNOWN = Observation.SUSPENDED, Observation.UNKNOWN

RULES = Rules(
    idp_of={"okta": "okta", "okta-poll": "okta", "entra": "entra"},
    rules=(
        Rule("team", "data", (GroupSpec.parse("Data", ()),)),
        Rule("team", "web", (GroupSpec.parse("Web", ()),)),
        Rule("role", "internal_viewer", (GroupSpec.parse("Auditors", ()),)),
        Rule("role", "internal_user", (GroupSpec.parse("Staff", ()),)),
    ),
)
BOUND = (
    Bound("team", "data", "g-data"),
    Bound("team", "web", "g-web"),
    Bound("role", "internal_viewer", "g-audit"),
    Bound("role", "internal_user", "g-staff"),
)


def record(
    source: str = "okta",
    seen: Observation = PRESENT,
    *groups: str,
    at: float = 1.0,
    deleted: bool = False,
) -> Record:
    return Record(source, seen, at, frozenset(groups), deleted)


def access(
    *records: Record, rules: Rules = RULES, banned: str | None = None, protected: str | None = None, ever: bool = False
) -> Access:
    return decide(records, BOUND, rules, banned=banned, protected=protected, ever_had_access=ever)


ALL = replace(RULES, departed="all")


@pytest.mark.parametrize(
    ("records", "options", "standing", "evidence"),
    [
        pytest.param([record()], {"banned": "left"}, Standing.DEPARTED, Evidence.REVOKED, id="a live ban"),
        pytest.param(
            [record("okta", PRESENT, "g-data")],
            {"banned": "left"},
            Standing.DEPARTED,
            Evidence.REVOKED,
            id="ban, group",
        ),
        pytest.param(
            [record("okta", INACTIVE)], {"protected": "glass"}, Standing.UNMANAGED, None, id="protected and inactive"
        ),
        pytest.param(
            [record("okta", PRESENT, "g-data")], {"protected": "glass"}, Standing.UNMANAGED, None, id="protected, group"
        ),
        pytest.param([record()], {"banned": "x", "protected": "y"}, Standing.DEPARTED, Evidence.REVOKED, id="both"),
        pytest.param([record("okta", INACTIVE)], {}, Standing.DEPARTED, Evidence.SCIM_INACTIVE, id="inactive"),
        pytest.param([record("okta", ABSENT, deleted=True)], {}, Standing.DEPARTED, Evidence.SCIM_DELETE, id="deleted"),
        pytest.param([record("okta", SUSPENDED, "g-data")], {}, Standing.SUSPENDED, Evidence.SUSPENDED, id="suspended"),
        pytest.param([record("okta", PRESENT, "g-data")], {}, Standing.PRESENT, None, id="in a team's group"),
        pytest.param([record("okta", PRESENT, "g-audit")], {}, Standing.PRESENT, None, id="in a role's group"),
        pytest.param(
            [record("okta", PRESENT, "g-other")],
            {"ever": True},
            Standing.DEPARTED,
            Evidence.GROUP_LOSS,
            id="in none now",
        ),
        pytest.param([record("okta", PRESENT, "g-other")], {}, Standing.UNMANAGED, None, id="in none, never had any"),
        pytest.param([], {}, Standing.UNMANAGED, None, id="no record at all"),
        pytest.param([], {"ever": True}, Standing.DEPARTED, Evidence.GROUP_LOSS, id="no record left"),
    ],
)
def test_each_row_of_the_table(
    records: list[Record], options: dict[str, Any], standing: Standing, evidence: Evidence | None
) -> None:
    found = access(*records, **options)
    assert (found.standing, found.evidence) == (standing, evidence)
    assert found.reasons


@pytest.mark.parametrize(
    ("left", "departed_any", "departed_all"),
    [
        ((INACTIVE, PRESENT), Standing.DEPARTED, Standing.PRESENT),
        ((PRESENT, INACTIVE), Standing.DEPARTED, Standing.PRESENT),
        ((ABSENT, PRESENT), Standing.DEPARTED, Standing.PRESENT),
        ((SUSPENDED, PRESENT), Standing.SUSPENDED, Standing.PRESENT),
        ((INACTIVE, ABSENT), Standing.DEPARTED, Standing.DEPARTED),
        ((INACTIVE, SUSPENDED), Standing.DEPARTED, Standing.DEPARTED),
        ((SUSPENDED, SUSPENDED), Standing.SUSPENDED, Standing.SUSPENDED),
        ((INACTIVE, UNKNOWN), Standing.DEPARTED, Standing.DEPARTED),
        ((UNKNOWN, PRESENT), Standing.PRESENT, Standing.PRESENT),
        ((PRESENT, PRESENT), Standing.PRESENT, Standing.PRESENT),
    ],
)
def test_any_and_all_across_two_directories(
    left: tuple[Observation, Observation], departed_any: Standing, departed_all: Standing
) -> None:
    records = (record("okta", left[0], "g-data"), record("entra", left[1], "g-data"))
    assert access(*records).standing is departed_any
    assert access(*records, rules=ALL).standing is departed_all


def test_all_gives_only_what_the_directory_that_still_knows_the_person_gives() -> None:
    found = access(record("okta", INACTIVE, "g-data"), record("entra", PRESENT, "g-web"), rules=ALL)
    assert found.teams == {"web"}


@pytest.mark.parametrize("rules", [RULES, ALL], ids=["any", "all"])
def test_an_unknown_record_alone_neither_gives_nor_takes(rules: Rules) -> None:
    assert access(record("okta", UNKNOWN, "g-data"), rules=rules).standing is Standing.UNMANAGED
    assert access(record("okta", UNKNOWN, "g-data"), rules=rules).teams == frozenset()


@pytest.mark.parametrize(
    ("first", "second", "standing"),
    [(PRESENT, INACTIVE, Standing.DEPARTED), (INACTIVE, PRESENT, Standing.PRESENT)],
)
def test_the_newest_observation_of_a_directory_counts(
    first: Observation, second: Observation, standing: Standing
) -> None:
    older, newer = record("okta", first, "g-data", at=1.0), record("okta-poll", second, "g-data", at=2.0)
    assert access(older, newer).standing is standing
    assert access(newer, older).standing is standing


def test_an_unknown_that_is_newer_does_not_hide_an_older_word() -> None:
    assert access(record("okta", INACTIVE, at=1.0), record("okta-poll", UNKNOWN, at=2.0)).standing is Standing.DEPARTED


def test_a_live_record_outweighs_a_newer_tombstone_of_the_same_directory() -> None:
    live, tombstone = record("okta", PRESENT, "g-data", at=1.0), record("okta", ABSENT, at=9.0, deleted=True)
    assert access(live, tombstone).teams == {"data"}
    assert access(tombstone, live).teams == {"data"}


def test_a_tombstone_beside_a_live_inactive_record_is_an_inactive_person() -> None:
    found = access(record("okta", INACTIVE, at=1.0), record("okta", ABSENT, at=9.0, deleted=True))
    assert found.evidence is Evidence.SCIM_INACTIVE


def test_a_tombstone_does_not_excuse_another_directory() -> None:
    found = access(record("okta", ABSENT, at=1.0, deleted=True), record("entra", PRESENT, "g-data", at=2.0))
    assert found.evidence is Evidence.SCIM_DELETE


def test_a_directory_that_denies_the_person_gives_no_groups_through_an_older_sibling_source() -> None:
    stale, newest = record("okta", PRESENT, "g-data", at=1.0), record("okta-poll", INACTIVE, at=2.0)
    found = access(stale, newest, record("entra", PRESENT, "g-web"), rules=ALL)
    assert found.teams == {"web"}


def test_memberships_of_two_directories_are_united() -> None:
    assert access(record("okta", PRESENT, "g-data"), record("entra", PRESENT, "g-web")).teams == {"data", "web"}


@pytest.mark.parametrize(
    ("groups", "role"),
    [
        (("g-audit",), "internal_viewer"),
        (("g-staff",), "internal_user"),
        (("g-staff", "g-audit"), "internal_viewer"),
        (("g-data",), "fallback"),
        (("g-data", "g-staff"), "internal_user"),
    ],
)
def test_the_first_role_of_the_configuration_wins_and_the_default_fills_in(groups: tuple[str, ...], role: str) -> None:
    rules = replace(RULES, default_role="fallback")
    assert access(record("okta", PRESENT, *groups), rules=rules).role == role


def test_the_reasons_name_every_group_that_gave_something_in_a_stable_order() -> None:
    found = access(record("okta", PRESENT, "g-web", "g-staff", "g-data"))
    assert [reason.what for reason in found.reasons] == ["role internal_user", "team data", "team web"]
    assert [reason.why for reason in found.reasons] == [f"member of group {g}" for g in ("g-staff", "g-data", "g-web")]


@pytest.mark.parametrize("seen", list(Observation))
def test_a_source_that_is_not_configured_neither_gives_nor_takes(seen: Observation) -> None:
    assert access(record("stranger", seen, "g-data"), rules=RULES).standing is Standing.UNMANAGED
    known = record("okta", PRESENT, "g-data")
    assert access(known, record("stranger", seen, "g-web")) == access(known)


# -- roles --------------------------------------------------------------------------------------------------------

USER, VIEWER, ADMIN, WATCHER = "internal_user", "internal_user_viewer", "proxy_admin", "proxy_admin_viewer"


@pytest.mark.parametrize(
    ("wanted", "shown", "gave", "before", "sets"),
    [
        (USER, VIEWER, None, None, USER),
        ("internal_viewer", VIEWER, None, None, None),
        (None, VIEWER, None, None, None),
        (ADMIN, USER, None, None, ADMIN),
        (ADMIN, WATCHER, None, None, ADMIN),
        (ADMIN, ADMIN, None, None, None),
        (USER, ADMIN, None, None, None),
        (USER, ADMIN, WATCHER, USER, None),
        (WATCHER, ADMIN, None, None, None),
        (WATCHER, ADMIN, ADMIN, USER, WATCHER),
        (USER, ADMIN, ADMIN, VIEWER, USER),
        (USER, ADMIN, ADMIN, WATCHER, WATCHER),
        (USER, WATCHER, ADMIN, USER, None),
        (USER, "org_admin", None, None, None),
    ],
)
def test_an_admin_is_lowered_only_where_idsync_made_them_one(
    wanted: str | None, shown: str | None, gave: str | None, before: str | None, sets: str | None
) -> None:
    given = GivenRole("acc-1", "gateway", "p-1", gave, before, 1.0, 1.0) if gave is not None else None
    assert role_to_set(wanted, shown, given) == sets


@pytest.mark.parametrize(
    ("wanted", "shown", "led", "given", "sets"),
    [
        ("admin", "user", False, False, "admin"),
        ("user", "admin", True, False, "user"),
        ("user", "admin", False, True, "user"),
        ("user", "admin", False, False, None),
        ("user", "user", True, True, None),
        ("admin", None, True, True, None),
    ],
)
def test_who_is_admin_of_a_team_is_put_right_where_groups_say_it(
    wanted: str, shown: str | None, led: bool, given: bool, sets: str | None
) -> None:
    assert team_role_to_set(wanted, shown, led=led, given=given) == sets


@given(st.sampled_from([None, USER, VIEWER, "internal_viewer", ADMIN, WATCHER, "org_admin"]))
def test_no_account_is_to_be_an_admin_whom_the_configuration_does_not_make_one(role: str | None) -> None:
    assert RULES.account_role(role) not in (ADMIN, WATCHER, "org_admin")
    assert replace(RULES, admins=frozenset({ADMIN})).account_role(ADMIN) == ADMIN
    assert not RULES.is_org_admin(role)


def test_the_admins_of_a_team_are_members_of_it() -> None:
    bound = (*BOUND, Bound("admin", "data", "g-leads"))
    found = decide([record("okta", PRESENT, "g-leads", "g-web")], bound, RULES)
    assert (set(found.teams), set(found.leads)) == ({"data", "web"}, {"data"})
    assert found.reasons[0].what == "admin of team data"


# -- protection ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("match", ["glass@example.com", "GLASS@Example.COM", "glass", "acc-1"])
def test_protection_goes_by_email_user_name_or_gateway_user_id_whatever_the_case(match: str) -> None:
    rules = Rules(protected=(Protection(match, "break-glass"),))
    assert protection([None, "glass", "Glass@example.com", "acc-1"], rules, now=0.0) == "break-glass"
    assert protection([None, "glassy", "glass@example.org", "acc-11"], rules, now=0.0) is None


@pytest.mark.parametrize(("now", "shield"), [(99.9, "until then"), (100.0, None), (100.1, None)])
def test_protection_ends_when_it_expires(now: float, shield: str | None) -> None:
    rules = Rules(protected=(Protection("ada", "until then", expires=100.0),))
    assert protection(["ada"], rules, now) == shield


def test_an_expired_protection_does_not_hide_a_live_one() -> None:
    rules = Rules(protected=(Protection("ada", "old", expires=1.0), Protection("ada", "new")))
    assert protection(["ada"], rules, now=2.0) == "new"


def test_nobody_is_protected_by_an_empty_name() -> None:
    assert protection(["", None], Rules(protected=(Protection("", "all"),)), now=0.0) is None


# -- names of groups ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "source", "id_"),
    [
        ("Data", "Data", None, None),
        ("okta/Data", "Data", "okta", None),
        ("R/D", "R/D", None, None),
        ("okta/R/D", "R/D", "okta", None),
        ("id:1-2", None, None, "1-2"),
        (" Data ", " Data ", None, None),
    ],
)
def test_a_group_is_named_by_name_by_source_or_by_id(
    text: str, name: str | None, source: str | None, id_: str | None
) -> None:
    spec = GroupSpec.parse(text, {"okta"})
    assert (spec.text, spec.name, spec.source, spec.id) == (text, name, source, id_)


def test_a_binding_counts_while_the_configuration_has_its_words_or_it_was_made_by_hand() -> None:
    assert RULES.still_names("team", "data", "Data")
    assert RULES.still_names("team", "data", MANUAL)
    assert not RULES.still_names("team", "data", "Old name")
    assert not RULES.still_names("team", "retired", MANUAL)
    assert not RULES.still_names("role", "data", "Data")


# -- what holds for every person ----------------------------------------------------------------------------------

SOURCES = st.sampled_from(["okta", "okta-poll", "entra", "stranger"])
GROUPS = st.frozensets(st.sampled_from(["g-data", "g-web", "g-audit", "g-staff", "g-other"]))
RECORDS = st.builds(
    Record, SOURCES, st.sampled_from(list(Observation)), st.floats(0, 100), GROUPS, deleted=st.booleans()
)
EVERY_RULES = st.sampled_from([RULES, ALL])


@given(st.lists(RECORDS, max_size=5), RECORDS, st.integers(0, 5), EVERY_RULES, st.booleans())
def test_an_unknown_record_never_changes_the_outcome(
    records: list[Record], extra: Record, at: int, rules: Rules, ever: bool
) -> None:
    silent = replace(extra, observation=UNKNOWN)
    before = access(*records, rules=rules, ever=ever)
    assert access(*records[:at], silent, *records[at:], rules=rules, ever=ever) == before


@given(st.lists(RECORDS, max_size=5), EVERY_RULES, st.booleans(), st.one_of(st.none(), st.text(min_size=1)))
def test_a_ban_always_wins(records: list[Record], rules: Rules, ever: bool, shield: str | None) -> None:
    found = access(*records, rules=rules, ever=ever, banned="left", protected=shield)
    assert (found.standing, found.evidence) == (Standing.DEPARTED, Evidence.REVOKED)
    assert (found.teams, found.role) == (frozenset(), None)


@given(st.lists(RECORDS, max_size=5), EVERY_RULES, st.booleans())
def test_a_protected_person_without_a_ban_is_left_alone(records: list[Record], rules: Rules, ever: bool) -> None:
    assert access(*records, rules=rules, ever=ever, protected="glass").standing is Standing.UNMANAGED


@given(st.lists(RECORDS, max_size=5), EVERY_RULES, st.booleans())
def test_a_team_always_comes_from_a_bound_group_of_a_present_record(
    records: list[Record], rules: Rules, ever: bool
) -> None:
    seen = {
        group for one in records if one.observation is PRESENT and one.source in rules.idp_of for group in one.groups
    }
    given_by = {bound.target for bound in BOUND if bound.kind == "team" and bound.group_id in seen}
    found = access(*records, rules=rules, ever=ever)
    assert found.teams <= given_by
    if found.standing is not Standing.PRESENT:
        assert (found.teams, found.role) == (frozenset(), None)


@given(st.lists(RECORDS, max_size=5), st.booleans())
def test_whoever_is_departed_under_all_is_departed_under_any(records: list[Record], ever: bool) -> None:
    out = (Standing.DEPARTED, Standing.SUSPENDED)
    if access(*records, rules=ALL, ever=ever).standing in out:
        assert access(*records, rules=RULES, ever=ever).standing in out
