"""Which calls run side by side: those that end access before all others, and few while somebody else waits."""

from __future__ import annotations

import asyncio

import pytest

from idsync.gateway.slots import BLOCK, FENCE, FEWEST, PROVE, TIDY, Slots, urgency

COUNT = 8


class Skipping(asyncio.SelectorEventLoop):
    """A loop whose time can be moved on."""

    skipped = 0.0

    def time(self) -> float:
        return super().time() + self.skipped


async def hold(slots: Slots, urgent: int, inside: list[int], release: asyncio.Event) -> None:
    urgency.set(urgent)
    async with slots.turn():
        inside.append(urgent)
        await release.wait()


async def crowd(slots: Slots, *urgent: int) -> tuple[list[int], asyncio.Event, list[asyncio.Task[None]]]:
    inside, release = list[int](), asyncio.Event()
    tasks = [asyncio.create_task(hold(slots, one, inside, release)) for one in urgent]
    for _ in range(5):
        await asyncio.sleep(0)
    return inside, release, tasks


@pytest.mark.parametrize(("urgent", "most"), [(FENCE, 8), (BLOCK, 8), (TIDY, 6), (PROVE, 6)])
def test_what_ends_no_access_leaves_slots_free(urgent: int, most: int) -> None:
    async def run() -> None:
        inside, release, tasks = await crowd(Slots(COUNT), *[urgent] * 20)
        assert len(inside) == most
        release.set()
        await asyncio.gather(*tasks)
        assert len(inside) == 20

    asyncio.run(run())


def test_few_calls_run_while_somebody_waits_and_all_run_in_the_end() -> None:
    async def run() -> None:
        slots = Slots(COUNT)
        slots.is_busy = lambda: True
        inside, release, tasks = await crowd(slots, *[PROVE] * 10, *[FENCE] * 10)
        assert len(inside) == FEWEST
        release.set()
        await asyncio.gather(*tasks)
        assert len(inside) == 20
        assert set(inside[FEWEST : FEWEST + 10]) == {FENCE}, "a fence goes before what waited longer"

    asyncio.run(run())


def test_a_fence_that_waits_is_not_passed_by_what_comes_later() -> None:
    """Pushes end while no call does: the next to come lets in who waited, not itself."""

    async def run() -> None:
        slots, pushes = Slots(COUNT), [True]
        slots.is_busy = lambda: bool(pushes)
        inside, release, tasks = await crowd(slots, *[PROVE] * FEWEST, *[FENCE] * 20)
        assert inside == [PROVE] * FEWEST
        pushes.clear()
        tasks.append(asyncio.create_task(hold(slots, PROVE, inside, release)))
        for _ in range(5):
            await asyncio.sleep(0)
        assert inside[FEWEST:] == [FENCE] * (COUNT - FEWEST)
        release.set()
        await asyncio.gather(*tasks)

    asyncio.run(run())


def test_a_slow_gateway_is_called_side_by_side_however_many_push() -> None:
    """There the calls cost time and hardly any work: giving way would only keep leavers waiting."""

    async def run() -> None:
        slots, loop = Slots(COUNT), asyncio.get_running_loop()
        assert isinstance(loop, Skipping)
        for _ in range(40):
            async with slots.turn():
                loop.skipped += 0.05
        slots.is_busy = lambda: True
        inside, release, tasks = await crowd(slots, *[FENCE] * 20)
        assert len(inside) == COUNT
        release.set()
        await asyncio.gather(*tasks)

    with asyncio.Runner(loop_factory=Skipping) as runner:
        runner.run(run())


def test_one_who_goes_away_keeps_no_slot() -> None:
    async def run() -> None:
        slots = Slots(1)
        inside, release, tasks = await crowd(slots, FENCE, FENCE, FENCE)
        tasks[1].cancel()
        tasks[0].cancel()
        release.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert inside == [FENCE, FENCE]
        async with slots.turn():
            pass

    asyncio.run(run())
