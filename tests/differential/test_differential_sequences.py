"""Random requests in random order: the short cuts answer and store exactly what the core does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, example, given, note, settings
from hypothesis import strategies as st
from support.chance import Chance

from idsync.scim.attributes import PATCH_OP
from idsync.scim.provider import SMALL_GROUP

from .agreement import agree
from .pair import Ask, Pair, pair
from .requests import REQUESTS, members_of_a_large_group

FUZZ = Chance("IDSYNC_FUZZ")
QUICKLY = settings(
    deadline=None,
    print_blob=True,
    report_multiple_bugs=False,
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
"""One failure is made small and shown; to explain it takes minutes."""


BOTH_AT_ONCE = {"op": "Add", "path": "members", "value": [{"value": "<u0>"}, {"value": "<g0>"}]}
"""Somebody, and a group that has them: two words on one person in one request."""


@settings(QUICKLY, max_examples=FUZZ.scaled(60, 2000))
@example(asks=[Ask("PATCH", "/Groups/<g1>", {"schemas": [PATCH_OP], "Operations": [BOTH_AT_ONCE]})])
@given(asks=st.lists(REQUESTS, min_size=1, max_size=12))
def test_any_requests_in_any_order(both: Pair, asks: list[Ask]) -> None:
    both.begin_again()
    for ask in asks:
        note(str(ask))
        agree(both, ask)
    for ask in both.everything():
        agree(both, ask)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A group that is small by one member, and two users who are not in it."""
    people = [Ask("POST", "/Users", {"userName": f"user{number}"}) for number in range(SMALL_GROUP + 2)]
    listed = [f"<u{number}>" for number in range(SMALL_GROUP)]
    with pair(tmp_path_factory.mktemp("large")) as made:
        for ask in (*people, Ask("POST", "/Groups", {"displayName": "Data", "members": listed})):
            assert made.ask(ask)[0].status == 201
        made.begin_here()
        yield made


@settings(QUICKLY, max_examples=FUZZ.scaled(5, 160))
@given(asks=st.lists(members_of_a_large_group(SMALL_GROUP), min_size=1, max_size=6))
def test_a_group_that_becomes_large_and_small_again(large: Pair, asks: list[Ask]) -> None:
    large.begin_again()
    part, whole = Ask("GET", "/Groups/<g0>?excludedAttributes=meta"), Ask("GET", "/Groups/<g0>")
    for ask in [*asks, part, whole, whole, Ask("GET", "/Users?count=200"), Ask("GET", "/Groups")]:
        agree(large, ask)


def test_both_sides_answer_large_groups_without_a_body(large: Pair) -> None:
    """The random test above would not notice if no group ever became large."""
    large.begin_again()
    told = []
    for op in ("add", "replace", "remove", "remove"):
        one = f"<u{SMALL_GROUP}>"
        entries = (
            [{"value": one}] if op != "replace" else [{"value": f"<u{number}>"} for number in range(SMALL_GROUP + 2)]
        )
        body = {"Operations": [{"op": op, "path": "members", "value": entries}]}
        told.append(agree(large, Ask("PATCH", "/Groups/<g0>", body)).status)
    assert told == [204, 204, 204, 204]
