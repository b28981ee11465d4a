"""What is done regularly goes on when somebody sets the machine's clock."""

from __future__ import annotations

import asyncio
import time

import pytest

from idsync.schedule import Metronome


@pytest.mark.parametrize(("step", "beats"), [(-3600.0, 2), (0.0, 1), (3600.0, 1)])
def test_a_clock_set_back_lets_every_beat_come_now(monkeypatch: pytest.MonkeyPatch, step: float, beats: int) -> None:
    """By that clock none would be due for an hour. Set forward, they are due too early at worst: by themselves."""
    told: list[float] = []

    async def play() -> None:
        metronome = Metronome()
        come = asyncio.Event()

        async def beat() -> None:
            told.append(time.monotonic())
            come.set()

        metronome.every(600.0, beat)
        metronome.start()
        await asyncio.wait_for(come.wait(), 10)
        come.clear()
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + step)
        metronome.mind_the_clock()
        if beats > 1:
            await asyncio.wait_for(come.wait(), 10)
        else:
            await asyncio.sleep(0)
        metronome.mind_the_clock()  # noticed once
        for _ in range(10):
            await asyncio.sleep(0)
        metronome.stop()

    asyncio.run(play())
    assert len(told) == beats
