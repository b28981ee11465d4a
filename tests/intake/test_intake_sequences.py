"""Whatever a source pushes in whatever order: what a person has is what their record and groups say."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from idsync.model import Group, User

from .world import World

NAMES = ("ada", "bob", "cy")
TEAMS = ("data", "web")
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["create", "deactivate", "reactivate", "delete", "join", "leave", "join", "create"]),
        st.integers(0, len(NAMES) - 1),
        st.integers(0, len(TEAMS) - 1),
    ),
    min_size=4,
    max_size=24,
)
Had = tuple[frozenset[str], str | None, str | None]


@dataclass
class One:
    """What the source has told of one user, and what was seen of the person so far."""

    name: str
    record: User | None = None
    active: bool = False
    groups: set[str] = field(default_factory=set)
    last: User | None = None
    had_access: bool = False
    generation: int = 0

    @property
    def is_entitled(self) -> bool:
        return self.record is not None and self.active and bool(self.groups)


class Source:
    """Pushes steps that make sense, and forgets those that do not."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.groups: dict[str, Group] = {team: world.group(team.capitalize()) for team in TEAMS}
        self.people = [One(name) for name in NAMES]

    def push(self, step: str, one: One, team: str) -> None:
        if one.record is None:
            if step == "create":
                one.record = one.last = self.world.user(one.name, external=f"ext-{one.name}")
                one.active, one.groups = True, set()
        elif step in ("deactivate", "reactivate"):
            one.active = step == "reactivate"
            self.world.change(one.record, active=one.active)
        elif step == "delete":
            self.world.delete(one.record)
            one.record, one.groups = None, set()
        elif step == "join":
            self.world.add(self.groups[team], one.record)
            one.groups.add(team)
        elif step == "leave":
            self.world.remove(self.groups[team], one.record)
            one.groups.discard(team)
        one.had_access |= one.is_entitled


def has(world: World, user: User | None) -> Had:
    if user is None:
        return frozenset(), None, None
    departure = world.left(user)
    return frozenset(world.teams(user)), world.person(user).role, departure.id if departure else None


def check(world: World, one: One, before: Had) -> None:
    if one.last is None:
        return
    after, person, job = has(world, one.last), world.person(one.last), world.job(one.last)
    teams, role, departure = after
    if one.is_entitled:
        assert (set(teams), role, departure) == (one.groups, "internal_user", None)
    elif one.record is None or not one.active or one.had_access:
        assert (teams, role) == (frozenset(), None)
        assert departure is not None
    assert person.generation >= one.generation
    if after != before:
        assert person.generation > one.generation
        assert job is not None
        assert job.wanted == person.generation
    one.generation = person.generation


def check_all(world: World) -> None:
    twice = world.db.all("SELECT person_id FROM departures WHERE closed_at IS NULL GROUP BY 1 HAVING COUNT(*) > 1")
    assert twice == []
    records = world.db.all("SELECT external_id FROM users GROUP BY external_id HAVING COUNT(DISTINCT person_id) > 1")
    assert records == []
    granted = "SELECT 1 FROM grants g JOIN departures d ON d.person_id = g.person_id AND d.closed_at IS NULL"
    assert world.db.all(f"{granted} WHERE g.state = 'granted'") == []
    assert world.trail()


@settings(max_examples=50, deadline=None)
@given(STEPS)
def test_people_have_exactly_what_their_records_and_groups_give(steps: list[tuple[str, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), guard={"max_push_departures": 1000})
        try:
            source = Source(world)
            for step, who, team in steps:
                world.clock.advance(1)
                world.finish_jobs()
                before = [has(world, one.last) for one in source.people]
                source.push(step, source.people[who], TEAMS[team])
                for one, had in zip(source.people, before, strict=True):
                    check(world, one, had)
            check_all(world)
        finally:
            world.close()
