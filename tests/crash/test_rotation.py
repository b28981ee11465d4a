"""Wherever idsync dies while it renews a shared key, the next run leaves one working key in the sink and no other."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.gateway import Gateway

from crash.keyscene import SHAPES, Forgetful, Hasty, KeyScene, Shape, Sound
from crash.points import worlds
from crash.size import FULL
from crash.test_points import some

VARIANTS = ["litellm", "routero"]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dialect", VARIANTS if FULL else VARIANTS[:1], indirect=True)
def test_a_rotation_survives_a_death_at_any_point(tmp_path: Path, gateway: Gateway, dialect: str, shape: Shape) -> None:
    scene = KeyScene(tmp_path, gateway, shape, dialect)
    undisturbed = scene.play()
    assert not undisturbed.faults, undisturbed
    assert sum("delivery" in point for point in undisturbed.met[0]) == 2, "one key, delivered once"
    every = range(1, len(undisturbed.met[0]) + 1)
    for n in every if FULL else some(worlds(undisturbed.met[0]), shape.few, shape.name):
        course = scene.play(n)
        assert course.deaths == 1
        assert not course.faults, course


def test_a_rotation_survives_two_deaths(tmp_path: Path, gateway: Gateway) -> None:
    scene = KeyScene(tmp_path, gateway, SHAPES[0], "litellm")
    for n in some(worlds(scene.play().met[0]), 3, "rotation"):
        for m in some(worlds(scene.play(n).met[1]), 1, "rotation", n):
            course = scene.play(n, m)
            assert not course.faults, course


@pytest.mark.parametrize("program", [Forgetful, Hasty])
def test_the_judge_convicts_a_mutant(tmp_path: Path, gateway: Gateway, program: type[Sound]) -> None:
    """Undisturbed it does its work; a death is what it does not survive."""
    scene = KeyScene(tmp_path, gateway, SHAPES[0], "litellm", program)
    undisturbed = scene.play()
    assert not undisturbed.faults, undisturbed
    assert any(scene.play(n).faults for n in worlds(undisturbed.met[0]))
