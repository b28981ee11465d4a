"""T1: the wall clock is set while idsync works. What is due stays due, and what waits as long as it was meant to.

Virtual time is what passes; the wall clock is set apart from it. A call takes a second here, so that every instant of a
run can be met.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.company import LAB
from support.gateway import Holder
from support.virtual import Simulation

HOUR, DAY = 3600.0, 86400.0
WAITS = 3 * HOUR
"""How long the deletion waits of whoever lost their last group."""
ONCE = ("/key/block", "/key/delete", "/team/list", "/key/info")
"""What the run of a leaver asks for once: it is seen there whether anybody else has begun another one."""
STEPS = pytest.mark.parametrize("step", [-HOUR, -600.0, +600.0, +DAY], ids=lambda step: f"{step:+.0f}s")


@pytest.fixture
def sim(tmp_path: Path) -> Iterator[Simulation]:
    policy = {"group_loss_delete_after": f"{WAITS:.0f}s"}
    with Simulation(tmp_path, policy=policy, reconcile={"every": "30d"}) as sim:
        yield sim


def at_work(sim: Simulation, login: str) -> Holder:
    """Hire somebody into Data, with a key there; from now on every call takes a second."""
    holder = sim.gateway.account(login)
    if LAB not in {team["team_id"] for team in sim.gateway.state()["teams"]}:
        sim.gateway.team(LAB)
    sim.gateway.hook("act", {"member_add": {"team_id": LAB, "user_id": holder.user_id}})
    sim.directory.hire(login, "Data")
    sim.until(sim.quiet, f"{login} is at work", within=60)
    holder.keys = [sim.gateway.key_of(holder.user_id, LAB)]
    sim.gateway.ready()
    sim.gateway.hook("options", {"latency": 1.0})
    return holder


def deletions(sim: Simulation) -> list[float]:
    return [row["t"] for row in sim.gateway.calls("/key/delete")]


@STEPS
@pytest.mark.parametrize("instant", [0.5, 4.5, 60.0])
def test_a_deletion_that_waits_comes_neither_earlier_nor_later(sim: Simulation, step: float, instant: float) -> None:
    """The clock is set at an instant of the run that ends access, or while the deletion waits."""
    leo = at_work(sim, "leo")
    sim.directory.part("Data", "leo")
    lost = sim.time
    sim.pass_time(instant)
    sim.clock.set(step)
    sim.pass_time(lost + WAITS - 1 - sim.time)
    assert sim.gateway.is_blocked(leo.keys[0])
    sim.pass_time(60)
    (deleted,) = deletions(sim)
    assert lost + WAITS <= deleted <= lost + WAITS + 30
    sim.gateway.assert_gone(leo)


@STEPS
@pytest.mark.parametrize("instant", [0.5, 6.5, 12.5])
def test_a_leaver_is_ended_at_once_and_looked_at_again_when_it_is_time(
    sim: Simulation, step: float, instant: float
) -> None:
    """Whatever the run is at; and no call of it is made twice, as nobody takes the job over."""
    leo = at_work(sim, "leo")
    sim.directory.leave("leo")
    left = sim.time
    sim.pass_time(instant)
    sim.clock.set(step)
    sim.pass_time(30)
    assert deletions(sim)[1:] == []
    sim.gateway.assert_gone(leo)
    looked = [row["t"] for row in sim.gateway.calls("/key/info")]
    sim.pass_time(120)
    again = [row["t"] for row in sim.gateway.calls("/key/info")][len(looked) :]
    assert len(again) == len(looked) == 1
    assert 60 <= again[0] - looked[0] <= 60 + 20
    assert left + 60 < again[0]


@STEPS
def test_what_failed_is_tried_again_in_time(sim: Simulation, step: float) -> None:
    """Jobs that are due and cannot begin, and those that wait for another try: a gateway is down, and comes back."""
    crew = [at_work(sim, f"p{number}") for number in range(8)]
    sim.gateway.break_with("*", status=500)
    for number in range(8):
        sim.directory.leave(f"p{number}")
    sim.pass_time(120)
    sim.clock.set(step)
    sim.pass_time(10)
    sim.gateway.mend()
    sim.until(sim.quiet, "all are gone", within=120)
    assert abs(sim.core.clock.strayed()) < 1, "and what is written now has the time of the clock that was set"
    for one in crew:
        sim.gateway.assert_gone(one)


@pytest.mark.parametrize("step", [-HOUR, +DAY], ids=["back", "forward"])
def test_a_slow_call_is_not_made_twice_because_a_lease_seems_to_have_run_out(sim: Simulation, step: float) -> None:
    leo = at_work(sim, "leo")
    sim.gateway.break_with("/key/block", delay=7.0)
    sim.gateway.break_with("/key/delete", delay=7.0)
    sim.directory.leave("leo")
    sim.pass_time(5)
    sim.clock.set(step)
    for number in range(6):
        sim.directory.hire(f"n{number}", "Web")  # wakes the engine
        sim.pass_time(3)
    sim.pass_time(60)
    assert {path: len(sim.gateway.calls(path)) for path in ONCE} == dict.fromkeys(ONCE, 1)
    sim.gateway.assert_gone(leo)


def test_a_job_that_outlasts_its_lease_is_served_once(sim: Simulation) -> None:
    """A lease is twenty seconds here; every call takes four and a half, and is answered."""
    leo = at_work(sim, "leo")
    sim.core.engine.settings = replace(sim.core.engine.settings, lease=20.0)
    sim.gateway.break_with("*", delay=3.5)
    sim.directory.leave("leo")
    took = sim.until(sim.quiet, "it is proven", within=120)
    assert took > 30
    assert {path: len(sim.gateway.calls(path)) for path in ONCE} == dict.fromkeys(ONCE, 1)
    sim.pass_time(10)
    assert sim.gateway.log()[-1]["t"] < sim.time - 10, "nor is it begun anew when it has ended"
    sim.gateway.assert_gone(leo)
