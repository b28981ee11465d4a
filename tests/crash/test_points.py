"""Wherever idsync dies on the way of a leaver, and dies again, the next life ends what was begun, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path

import pytest
from support.gateway import Gateway

from crash.mutants import MUTANTS, NoLeaseRecovery
from crash.points import Program, worlds
from crash.scene import Course, Scene
from crash.shapes import SHAPES, Shape
from crash.size import CRASH, FULL

VARIANTS = [("litellm", 1), *([("routero", 1), ("litellm", 16), ("routero", 16)] if FULL else [])]
"""Dialects, and how many calls go on side by side: one keeps the points in the same order in every play."""
PUSHED = SHAPES[0]
TWO = next(shape for shape in SHAPES if shape.name == "two at once")
"""The calls of two people come back in either order: a life may be over some points sooner than it was before."""


def some(points: list[int], few: int, *case: object) -> list[int]:
    """Return all of the points in `make crash`, and about so many of them in `make test`."""
    wanted = min(len(points), CRASH.scaled(few, len(points)))
    return sorted(CRASH.dice(*case).sample(points, wanted))


def at_every_point(scene: Scene) -> Iterator[Course]:
    """Die at the first point, at the second, and so on, until a life ends before it meets its point."""
    for n in count(1):
        course = scene.play(n)
        if not course.deaths:
            return
        yield course


def at_each(scene: Scene, points: Iterable[int]) -> Iterator[Course]:
    """Die at these points."""
    for n in points:
        course = scene.play(n)
        assert course.deaths == 1 or (scene.shape is TWO and len(course.met[0]) > n // 2), course
        yield course


def fewer(shape: Shape, met: Sequence[str]) -> list[int]:
    """Return the points for `make test`; `make crash` takes every point of every shape.

    Of a push these are all that have an effect, and every third of all; of the other shapes, whose courses have much in
    common, every second that has an effect, alternately the odd and the even ones.
    """
    if shape is PUSHED:
        return sorted({*worlds(met), *range(1, len(met) + 1, 3)})
    return worlds(met)[SHAPES.index(shape) % 2 :: 2]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("dialect", "calls"), VARIANTS, indirect=["dialect"])
def test_a_leaver_survives_a_death_at_any_point(
    tmp_path: Path, gateway: Gateway, dialect: str, calls: int, shape: Shape
) -> None:
    scene = Scene(tmp_path, gateway, shape, dialect, calls)
    undisturbed = scene.play()
    assert not undisturbed.faults, undisturbed
    for course in at_every_point(scene) if FULL else at_each(scene, fewer(shape, undisturbed.met[0])):
        assert not course.faults, course


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_leaver_survives_two_deaths(tmp_path: Path, gateway: Gateway, shape: Shape) -> None:
    scene = Scene(tmp_path, gateway, shape)
    for n in some(worlds(scene.play().met[0]), 1, shape.name):
        second_life = scene.play(n).met[1]
        for m in some(worlds(second_life), 1, shape.name, n):
            course = scene.play(n, m)
            assert course.deaths == 2 or (shape is TWO and len(course.met[1]) > m // 2), course
            assert not course.faults, course


IN_A_FILE = pytest.mark.needs_file("leases of the dead end at its opening; those in a database, by their signs of life")


@pytest.mark.parametrize(
    "mutant", [pytest.param(each, marks=IN_A_FILE) if each is NoLeaseRecovery else each for each in MUTANTS]
)
def test_the_judge_convicts_a_mutant(tmp_path: Path, gateway: Gateway, mutant: type[Program]) -> None:
    """Undisturbed it does its work; a death is what it does not survive."""
    scene = Scene(tmp_path, gateway, PUSHED, program=mutant())
    undisturbed = scene.play()
    assert not undisturbed.faults, undisturbed
    assert any(course.faults for course in at_each(scene, worlds(undisturbed.met[0])))


SHORT, LONGER, LIVES = 16, 40, 8
"""Points a life meets, of the more than eighty that a leaver has; and how many such lives there are, one after the other."""


def test_lives_that_are_all_too_short_end_access_and_longer_ones_prove_it(tmp_path: Path, gateway: Gateway) -> None:
    """What a life has begun is not kept waiting by its lease, and no life begins from the beginning."""
    scene = Scene(tmp_path, gateway, PUSHED)
    short, longer = scene.play(*[SHORT] * LIVES), scene.play(*[LONGER] * LIVES)
    assert (short.faults, longer.faults) == ([], [])
    assert short.deaths == LIVES
    assert "POST" not in " ".join(short.met[-2]), "there is nothing left to end; a proof takes a longer life"
    assert longer.deaths < LIVES
