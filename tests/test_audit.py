"""The hash chain: whatever is altered, removed, inserted or swapped breaks it at a number that can be told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idsync.audit import GENESIS, AuditEvent, detail_text, digest, first_break


def chain(count: int) -> list[AuditEvent]:
    events: list[AuditEvent] = []
    for seq in range(1, count + 1):
        events.append(sealed(seq, events[-1].hash if events else GENESIS))
    return events


def sealed(seq: int, prev: str, detail: dict[str, Any] | None = None) -> AuditEvent:
    detail = {"n": seq} if detail is None else detail
    seal = digest(prev, seq, seq * 1.5, "okta/t1", "user.changed", f"user-{seq}", detail_text(detail))
    return AuditEvent(seq, seq * 1.5, "okta/t1", "user.changed", f"user-{seq}", detail, prev, seal)


def test_nothing_and_a_whole_chain_have_no_break() -> None:
    assert first_break([]) is None
    assert first_break(chain(5)) is None


@pytest.mark.parametrize(
    "change",
    [
        {"at": 1.0},
        {"actor": "okta/t2"},
        {"action": "user.created"},
        {"subject": "somebody else"},
        {"detail": {}},
        {"detail": {"n": "3"}},
        {"detail": {"n": 3, "more": None}},
        {"prev": GENESIS},
        {"hash": "f" * 64},
        {"seq": 7},
    ],
    ids=str,
)
def test_altering_any_field_breaks_the_chain_there(change: dict[str, Any]) -> None:
    events = chain(5)
    events[2] = replace(events[2], **change)
    assert first_break(events) == events[2].seq


def test_an_entry_that_was_altered_and_sealed_again_breaks_the_next_one() -> None:
    events = chain(5)
    events[2] = sealed(3, events[1].hash, {"n": "altered"})
    assert first_break(events) == 4


def test_a_gap_in_the_numbers_breaks_the_chain_although_every_seal_fits() -> None:
    first = sealed(1, GENESIS)
    assert first_break([first, sealed(3, first.hash)]) == 3
    assert first_break([sealed(2, GENESIS)]) == 2


@pytest.mark.parametrize("index", range(4))
def test_removing_an_entry_breaks_the_one_after_it(index: int) -> None:
    events = chain(5)
    del events[index]
    assert first_break(events) == index + 2


def test_inserting_and_swapping_break_the_chain() -> None:
    events = chain(5)
    assert first_break([*events[:2], events[1], *events[2:]]) == 2
    assert first_break([events[0], events[2], events[1], *events[3:]]) == 3


def test_a_cut_off_end_shows_only_in_the_head() -> None:
    events = chain(5)
    assert first_break(events[:3]) is None
    assert events[2].hash != events[4].hash


def test_the_detail_has_one_written_form_whatever_the_order_of_its_keys() -> None:
    assert detail_text({"b": 1, "a": {"d": "é", "c": None}}) == '{"a":{"c":null,"d":"é"},"b":1}'


FIELDS = st.text(max_size=8)


@given(FIELDS, FIELDS, FIELDS, FIELDS, FIELDS, FIELDS)
def test_fields_never_run_into_each_other(a: str, b: str, c: str, x: str, y: str, z: str) -> None:
    same = digest(GENESIS, 1, 0.0, a, b, c, "{}") == digest(GENESIS, 1, 0.0, x, y, z, "{}")
    assert same == ((a, b, c) == (x, y, z))


def test_a_lone_surrogate_can_be_sealed() -> None:
    assert len(digest(GENESIS, 1, 0.0, "\ud800", "a", "s", "{}")) == 64
