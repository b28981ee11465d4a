"""The gate, on a clock that moves only when told to."""

from __future__ import annotations

import asyncio

import pytest

from idsync.clock import ManualClock
from idsync.errors import AdminKeyRefused, BadAnswer, GatewayError, Missing, Throttled, Transient, Unsupported
from idsync.gateway.gate import Gate


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def gate(clock: ManualClock) -> Gate:
    return Gate(clock)


def call(gate: Gate, outcome: BaseException | None = None, key: str = "k") -> bool:
    """Make one call with this outcome; False when the gate did not let it through."""
    went = False
    try:
        with gate.passing(key):
            went = True
            if outcome is not None:
                raise outcome
    except (GatewayError, asyncio.CancelledError):
        pass
    return went


def test_it_is_open(gate: Gate) -> None:
    assert call(gate)


class TestRefusedKey:
    def test_nothing_goes_for_a_minute(self, gate: Gate, clock: ManualClock) -> None:
        call(gate, AdminKeyRefused())
        clock.advance(59.9)
        with pytest.raises(AdminKeyRefused), gate.passing("k"):
            pytest.fail("went through")

    def test_then_one_probe_and_its_success_opens(self, gate: Gate, clock: ManualClock) -> None:
        call(gate, AdminKeyRefused())
        clock.advance(60)
        with gate.passing("k"):
            assert not call(gate), "one probe at a time"
        assert call(gate)

    @pytest.mark.parametrize("outcome", [AdminKeyRefused(), Transient(), Throttled(), Unsupported(), BadAnswer()])
    def test_a_probe_that_proves_nothing_costs_another_minute(
        self, gate: Gate, clock: ManualClock, outcome: GatewayError
    ) -> None:
        call(gate, AdminKeyRefused())
        clock.advance(60)
        assert call(gate, outcome)
        clock.advance(59)
        assert not call(gate)
        clock.advance(1)
        assert call(gate)
        assert call(gate)

    def test_a_missing_object_proves_the_key(self, gate: Gate, clock: ManualClock) -> None:
        call(gate, AdminKeyRefused())
        clock.advance(60)
        call(gate, Missing())
        assert call(gate)

    def test_a_cancelled_probe_leaves_the_turn_to_the_next(self, gate: Gate, clock: ManualClock) -> None:
        call(gate, AdminKeyRefused())
        clock.advance(60)
        assert call(gate, asyncio.CancelledError())
        assert call(gate)

    def test_a_late_success_from_before_the_refusal_does_not_open(self, gate: Gate) -> None:
        with gate.passing("k"):
            call(gate, AdminKeyRefused())
        assert not call(gate)

    def test_another_key_is_tried_at_once(self, gate: Gate) -> None:
        call(gate, AdminKeyRefused(), key="old")
        assert not call(gate, key="old")
        assert call(gate, key="new")
        assert call(gate, key="new")

    def test_the_key_is_in_no_text(self, gate: Gate) -> None:
        call(gate, AdminKeyRefused(), key="hush-hush")
        with pytest.raises(AdminKeyRefused) as caught, gate.passing("hush-hush"):
            pass
        assert "hush" not in str(caught.value) + repr(gate)


class TestThrottled:
    def test_until_the_named_time(self, gate: Gate, clock: ManualClock) -> None:
        call(gate, Throttled(retry_after=10))
        clock.advance(4)
        with pytest.raises(Throttled) as caught, gate.passing("k"):
            pytest.fail("went through")
        assert caught.value.retry_after == 6
        clock.advance(6)
        assert call(gate)

    def test_a_shorter_pause_does_not_shorten_a_longer_one(self, gate: Gate, clock: ManualClock) -> None:
        with gate.passing("k"):
            call(gate, Throttled(retry_after=10))
        with pytest.raises(Throttled), gate.passing("k"):
            pass
        clock.advance(9)
        assert not call(gate)

    def test_without_a_time_it_is_a_failure_like_others(self, gate: Gate) -> None:
        assert [call(gate, Throttled()) for _ in range(6)] == [True] * 5 + [False]


class TestFailures:
    def test_five_in_a_row_close_it_but_for_one_a_second(self, gate: Gate, clock: ManualClock) -> None:
        assert [call(gate, Transient()) for _ in range(6)] == [True] * 5 + [False]
        clock.advance(1)
        assert [call(gate, Transient()) for _ in range(3)] == [True, False, False]
        clock.advance(1)
        assert [call(gate) for _ in range(3)] == [True, True, True]

    def test_a_probe_that_hangs_does_not_keep_others_from_probing(self, gate: Gate, clock: ManualClock) -> None:
        for _ in range(5):
            call(gate, Transient())
        clock.advance(1)
        with gate.passing("k"):
            assert not call(gate)
            clock.advance(1)
            assert call(gate)

    @pytest.mark.parametrize("outcome", [None, Missing()])
    def test_an_answer_in_between_starts_the_count_again(self, gate: Gate, outcome: GatewayError | None) -> None:
        for _ in range(4):
            call(gate, Transient())
        call(gate, outcome)
        assert [call(gate, Transient()) for _ in range(5)] == [True] * 5

    def test_a_bad_answer_neither_counts_nor_clears(self, gate: Gate) -> None:
        for _ in range(4):
            call(gate, Transient())
        call(gate, BadAnswer())
        call(gate, Transient())
        assert not call(gate)
