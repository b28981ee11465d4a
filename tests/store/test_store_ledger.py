"""The ledger: one open departure a person, holds that are joined, and a checksum of exactly what they keep back."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from idsync.model import DepartureState, Evidence
from idsync.store import ledger, people, tokens
from idsync.store.db import Db, Store
from idsync.store.ledger import Departure, HoldItem

NOW = 1000.0
ADA = Departure(
    id="d-1",
    person_id="p-1",
    label="ada",
    account_id="acc-1",
    kind="departure",
    evidence=Evidence.SCIM_INACTIVE,
    cause="okta says active=false",
    source="okta",
    state=DepartureState.ACCEPTED,
    received_at=NOW - 1,
    accepted_at=NOW,
    pushed_at=NOW,
    delete_at=NOW,
)


def put(store: Store, *departures: Departure) -> None:
    for departure in departures:
        store.write(partial(ledger.put_departure, departure=departure))


def test_a_departure_comes_back_as_it_was_put(store: Store) -> None:
    whole = replace(
        ADA,
        fenced_at=NOW + 1,
        blocked_at=NOW + 2,
        destroying_at=NOW + 3,
        deleted_at=NOW + 4,
        verified_at=NOW + 5,
        settled_at=NOW + 6,
        settle_at=NOW + 7,
        hold_id="h",
        fence="assumed",
        problem="why",
        receipt={"keys": [{"alias": "é"}]},
    )
    put(store, whole)
    assert ledger.departure(store.reader(), "d-1") == whole


def test_a_person_has_one_open_departure(store: Store) -> None:
    put(store, ADA)
    with pytest.raises(Exception, match=r"(?i)unique"):
        put(store, replace(ADA, id="d-2"))
    put(store, replace(ADA, closed_at=NOW + 1), replace(ADA, id="d-2", accepted_at=NOW + 2))
    opened = ledger.open_departure(store.reader(), "p-1")
    assert opened is not None
    assert opened.id == "d-2"
    assert [departure.id for departure in ledger.departures_of(store.reader(), "p-1")] == ["d-1", "d-2"]


def test_who_left_when_the_request_came_and_when_it_was_accepted_never_change(store: Store) -> None:
    put(store, ADA, replace(ADA, label="eve", person_id="p-9", received_at=0.0, accepted_at=0.0))
    found = ledger.departure(store.reader(), "d-1")
    assert found is not None
    assert (found.label, found.person_id, found.received_at, found.accepted_at) == ("ada", "p-1", NOW - 1, NOW)


def test_pushed_departures_are_counted_by_source_and_time_and_only_of_people_with_something_to_lose(
    store: Store,
) -> None:
    def person(name: str, account: str | None) -> str:
        return store.write(lambda db: people.new_person(db, name, NOW, account_id=account))

    one, two, three = (person(name, f"account-of-{name}") for name in ("ada", "bob", "cy"))
    put(
        store,
        replace(ADA, person_id=one),
        replace(ADA, id="d-2", person_id=two, source="entra"),
        replace(ADA, id="d-3", person_id=three, accepted_at=NOW - 900, pushed_at=NOW - 600),
        replace(ADA, id="d-4", person_id=(stranger := person("stranger", None))),
    )
    assert ledger.pushed_since(store.reader(), "okta", NOW - 600) == 1
    assert ledger.pushed_since(store.reader(), "okta", NOW - 601) == 2
    store.write(lambda db: people.link_account(db, stranger, "found-later"))
    assert ledger.pushed_since(store.reader(), "okta", NOW - 600) == 2


def test_access_that_has_not_ended_and_deletions_not_proven_by_now_count_as_unverified(store: Store) -> None:
    mass, _ = store.write(lambda db: ledger.join_hold(db, "push:okta", "many", NOW))
    admin, _ = store.write(lambda db: ledger.join_hold(db, "last_admin:p-7", "the last admin", NOW))
    put(
        store,
        replace(ADA, access_ended_at=NOW),
        replace(ADA, id="d-2", person_id="p-2", verified_at=NOW),
        replace(ADA, id="d-3", person_id="p-3", delete_at=NOW + 600, access_ended_at=NOW),
        replace(ADA, id="d-4", person_id="p-4", state=DepartureState.HELD, hold_id=mass.id, access_ended_at=NOW),
        replace(ADA, id="d-5", person_id="p-5", kind="suspension", access_ended_at=NOW),
        replace(ADA, id="d-6", person_id="p-6", closed_at=NOW),
        replace(ADA, id="d-7", person_id="p-7", state=DepartureState.HELD, hold_id=admin.id),
    )
    assert ledger.unverified(store.reader(), NOW) == 1, "deletion is due"
    assert ledger.unverified(store.reader(), NOW + 600) == 2, "of the one that waited, too"
    put(
        store,
        replace(ADA, id="d-3", person_id="p-3", delete_at=NOW + 600),
        replace(ADA, id="d-4", person_id="p-4", state=DepartureState.HELD, hold_id=mass.id),
        replace(ADA, id="d-5", person_id="p-5", kind="suspension"),
    )
    assert ledger.unverified(store.reader(), NOW) == 4, "whatever waits, access does not"


def test_the_time_to_revoke_leaves_out_what_waited_on_purpose(store: Store) -> None:
    put(
        store,
        replace(ADA, verified_at=NOW + 2),
        replace(ADA, id="d-2", person_id="p-2", verified_at=NOW + 1),
        replace(ADA, id="d-3", person_id="p-3", delete_at=NOW + 600, verified_at=NOW + 601),
        replace(ADA, id="d-4", person_id="p-4", hold_id="h", verified_at=NOW + 9),
        replace(ADA, id="d-5", person_id="p-5"),
        replace(ADA, id="d-6", person_id="p-6", accepted_at=0.0, delete_at=0.0, verified_at=NOW),
    )
    assert ledger.times_to_revoke(store.reader(), NOW - 1) == [2.0, 3.0]


# -- holds --------------------------------------------------------------------------------------------------------


def join(store: Store, kind: str) -> tuple[str, bool]:
    hold, is_new = store.write(lambda db: ledger.join_hold(db, kind, f"reason of {kind}", NOW))
    return hold.id, is_new


def test_an_open_hold_of_a_kind_is_joined_and_a_decided_one_is_not(store: Store) -> None:
    first, is_new = join(store, "push:okta")
    assert is_new
    assert join(store, "push:okta") == (first, False)
    assert join(store, "push:entra")[1]
    store.write(lambda db: ledger.decide_hold(db, first, "approved", "ada", NOW))
    second, is_new = join(store, "push:okta")
    assert is_new
    assert second != first


@pytest.mark.parametrize(("decision", "still"), [(None, True), ("rejected", True), ("approved", False)])
def test_deletion_waits_until_a_hold_is_approved(store: Store, decision: str | None, still: bool) -> None:
    hold, _ = join(store, "push:okta")
    if decision is not None:
        store.write(lambda db: ledger.decide_hold(db, hold, decision, "ada", NOW))
    assert ledger.hold_is_open(store.reader(), hold) is still
    assert not ledger.hold_is_open(store.reader(), None)
    assert not ledger.hold_is_open(store.reader(), "unknown")


def test_a_decision_is_made_once(store: Store) -> None:
    hold, _ = join(store, "push:okta")
    store.write(lambda db: ledger.decide_hold(db, hold, "rejected", "ada", NOW))
    store.write(lambda db: ledger.decide_hold(db, hold, "approved", "eve", NOW + 1))
    found = ledger.hold(store.reader(), hold)
    assert found is not None
    assert (found.state, found.decided_by, found.decided_at) == ("rejected", "ada", NOW)
    assert ledger.holds(store.reader()) == []
    assert len(ledger.holds(store.reader(), only_open=False)) == 1


ITEM = HoldItem("h", "p-1", "", "scim_inactive", "1.0")


@pytest.mark.parametrize(
    "other",
    [
        replace(ITEM, person_id="p-2"),
        replace(ITEM, team="data"),
        replace(ITEM, cause="scim_delete"),
        replace(ITEM, version="2.0"),
    ],
    ids=["person", "team", "cause", "version"],
)
def test_the_checksum_covers_person_team_cause_and_version(other: HoldItem) -> None:
    assert ledger.checksum([ITEM]) != ledger.checksum([other])
    assert ledger.checksum([ITEM, other]) == ledger.checksum([other, ITEM])
    assert ledger.checksum([ITEM, other]) != ledger.checksum([ITEM])


def test_the_checksum_does_not_depend_on_the_holds_id() -> None:
    assert ledger.checksum([ITEM]) == ledger.checksum([replace(ITEM, hold_id="other")])


def test_who_came_back_is_dropped_from_open_holds_and_stays_in_decided_ones(store: Store) -> None:
    decided, _ = join(store, "push:okta")

    def fill(db: Db, hold: str) -> None:
        for team in ("", "data"):
            ledger.add_item(db, replace(ITEM, hold_id=hold, team=team))

    store.write(lambda db: fill(db, decided))
    store.write(lambda db: ledger.decide_hold(db, decided, "rejected", "ada", NOW))
    opened, _ = join(store, "push:okta")
    store.write(lambda db: fill(db, opened))
    store.write(lambda db: ledger.drop_items(db, "p-1", ""))
    assert [item.team for item in ledger.items(store.reader(), opened)] == ["data"]
    assert len(ledger.items(store.reader(), decided)) == 2


# -- beside the ledger --------------------------------------------------------------------------------------------


def test_an_account_is_one_persons(store: Store) -> None:
    store.write(lambda db: people.new_person(db, "ada", NOW, account_id="acc-1"))
    with pytest.raises(Exception, match=r"(?i)unique"):
        store.write(lambda db: people.new_person(db, "eve", NOW, account_id="acc-1"))


def test_a_key_that_is_doomed_once_is_doomed_for_good(store: Store) -> None:
    key = people.BlockedKey("k", "p-1", "acc-1", None, doomed=True)
    store.write(lambda db: people.note_blocked(db, key, NOW))
    store.write(lambda db: people.note_blocked(db, replace(key, doomed=False), NOW))
    assert people.blocked_keys(store.reader(), "p-1") == [key]


def test_a_conflict_is_open_once_and_can_come_again_after_it_was_settled(store: Store) -> None:
    def note(db: Db) -> bool:
        return people.open_conflict(db, "account", "p-1", "two accounts", "idsync link", NOW)

    assert store.write(note)
    assert not store.write(note)
    assert store.write(lambda db: people.resolve_conflicts(db, "account", "p-1", NOW)) == 1
    assert people.conflicts(store.reader()) == []
    assert store.write(note)


def test_a_generation_only_rises(store: Store) -> None:
    person = store.write(lambda db: people.new_person(db, "ada", NOW))
    assert [store.write(lambda db: people.bump_generation(db, person)) for _ in range(3)] == [1, 2, 3]


def test_a_token_is_revoked_once_and_then_dead(store: Store) -> None:
    store.write(lambda db: tokens.put_token(db, id="t", kind="source", name="okta", scope="scim", digest="d", at=NOW))
    assert [token.id for token in tokens.live_tokens(store.reader())] == ["t"]
    assert store.write(lambda db: tokens.revoke_token(db, "t", NOW))
    assert not store.write(lambda db: tokens.revoke_token(db, "t", NOW))
    assert tokens.live_tokens(store.reader()) == []
    assert [token.id for token in tokens.all_tokens(store.reader())] == ["t"]
