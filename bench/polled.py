"""idsync without servers, in a process of its own: it polls when it is told to, on standard input, and answers in JSON."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import Any

from bench.stage import forget_peak, memory
from idsync import config, logs
from idsync.app import Core, opened
from idsync.store import jobs, ledger


async def main(settings: str) -> None:
    logs.configure("error", "json", color=False)
    async with opened(config.load(settings, {}).config) as core:
        engine = asyncio.create_task(core.engine.run())
        for line in iter(sys.stdin.readline, ""):
            print(json.dumps(await _do(core, line.strip())), flush=True)
        core.engine.stop()
        await engine


async def _do(core: Core, order: str) -> dict[str, Any]:
    if order == "teams":
        await core.reconciler.apply()
        return {}
    if order == "settle":
        while not all(job.waiting and not job.leased for job in jobs.all_jobs(core.store.reader())):
            await core.engine.progress(0.2)
        return {}
    forget_peak(os.getpid())
    began, spent, at = time.monotonic(), time.process_time(), time.time()
    outcome = await getattr(core.poller, order)("poll")
    took, cpu = time.monotonic() - began, time.process_time() - spent
    done = {
        "seconds": took,
        "cpu": cpu,
        "peak": memory(os.getpid())[1],
        "listed": outcome.listed,
        "lost": len(outcome.losses),
    }
    if outcome.losses:
        departure = await _verified(core, outcome.losses[0].person_id)
        done |= {"blocked": (departure.blocked_at or 0) - at, "verified": (departure.verified_at or 0) - at}
    return done


async def _verified(core: Core, person_id: str) -> ledger.Departure:
    while True:
        departure = ledger.open_departure(core.store.reader(), person_id)
        if departure is not None and departure.verified_at is not None:
            return departure
        await core.engine.progress(0.2)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
