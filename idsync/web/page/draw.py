"""The drawings: a departure's stages as a line, and times to revoke as bars. SVG within the page, no script, no styles.

Colour is never the only sign: what is done is filled and ticked, what is not is hollow, and each has its words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from idsync.web.page.html import Markup, tag
from idsync.web.page.words import length

STAGES = ("accepted", "fenced", "blocked", "deleted", "verified", "settled")
ENDS = (0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0)
"""Upper ends of the bars, in seconds; the last bar is for all that took longer."""
LABELS = ("0.1 s", "0.25", "0.5", "1 s", "5 s", "30 s", "5 min", "more")


@dataclass(frozen=True)
class Step:
    """One stage: its name, the seconds from the request to it (None: not reached), and whether it will come."""

    name: str
    after: float | None
    wanted: bool = True


def steps(received_at: float, stages: Mapping[str, float | None], unwanted: frozenset[str] = frozenset()) -> list[Step]:
    found = []
    for name in STAGES:
        at = stages.get(name)
        found.append(Step(name, None if at is None else max(0.0, at - received_at), name not in unwanted))
    return found


def said(step: Step) -> str:
    """Say in words where a stage stands."""
    if step.after is not None:
        return f"after {length(step.after)}"
    return "not yet" if step.wanted else "not wanted"


def timeline(line: Sequence[Step], *, upright: bool = False) -> Markup:
    """Draw the stages of a departure, across or upright for narrow screens."""
    gap, start = (46, 22) if upright else (116, 58)
    marks: list[Markup] = []
    for index, step in enumerate(line):
        at = start + index * gap
        x, y = (22, at) if upright else (at, 26)
        if index:
            to = {"x1": x, "y1": y - gap + 11, "x2": x, "y2": y - 11}
            to = to if upright else {"x1": x - gap + 11, "y1": y, "x2": x - 11, "y2": y}
            marks.append(tag("line", class_="way done" if step.after is not None else "way", **to))
        marks.append(_stop(x, y, step))
        name, told = ((44, y - 2), (44, y + 15)) if upright else ((x, 58), (x, 76))
        anchor = "start" if upright else "middle"
        marks.append(tag("text", step.name, x=name[0], y=name[1], text_anchor=anchor, class_="name"))
        marks.append(tag("text", said(step), x=told[0], y=told[1], text_anchor=anchor, class_="told"))
    size = (300, len(line) * gap) if upright else (len(line) * gap, 88)
    words = "; ".join(f"{step.name} {said(step)}" for step in line)
    return _picture(f"Stages: {words}", size, marks, "timeline upright" if upright else "timeline across")


def _stop(x: float, y: float, step: Step) -> Markup:
    if step.after is None:
        return tag("circle", cx=x, cy=y, r=10, class_="stop" if step.wanted else "stop never")
    tick = tag("path", d=f"M{x - 5} {y}l4 4l6 -8", class_="tick")
    return tag("g", tag("circle", cx=x, cy=y, r=11, class_="stop done"), tick)


def dots(line: Sequence[Step]) -> Markup:
    """Draw the same small, for a row of a list; the words are beside it."""
    marks: list[Markup] = [tag("line", x1=7, y1=8, x2=7 + 18 * (len(line) - 1), y2=8, class_="way")]
    for index, step in enumerate(line):
        kind = "stop done" if step.after is not None else "stop" if step.wanted else "stop never"
        marks.append(tag("circle", cx=7 + 18 * index, cy=8, r=5, class_=kind))
    size = (14 + 18 * (len(line) - 1), 16)
    done = sum(step.after is not None for step in line)
    return _picture(f"{done} of {len(line)} stages done", size, marks, "dots")


def histogram(counts: Sequence[int]) -> Markup:
    """Draw how many departures took how long; `counts` has one entry for every label."""
    width, height, base = 42, 90, 112
    most = max([*counts, 1])
    marks: list[Markup] = [tag("line", x1=0, y1=base, x2=width * len(counts), y2=base, class_="axis")]
    for index, (count, label) in enumerate(zip(counts, LABELS, strict=True)):
        middle = index * width + width / 2
        tall = max(3.0, height * count / most) if count else 0.0
        if count:
            marks.append(tag("rect", x=index * width + 6, y=base - tall, width=width - 12, height=tall, class_="bar"))
            shown = f"{count:,}" if count < 10_000 else f"{count / 1000:.0f}k"
            marks.append(tag("text", shown, x=middle, y=base - tall - 5, text_anchor="middle", class_="name"))
        marks.append(tag("text", label, x=middle, y=base + 16, text_anchor="middle", class_="told"))
    words = ", ".join(f"{label}: {count}" for label, count in zip(LABELS, counts, strict=True))
    return _picture(f"Departures by time to revoke, up to {words}", (width * len(counts), 134), marks, "histogram")


def _picture(words: str, size: tuple[float, float], marks: Sequence[Markup], kind: str) -> Markup:
    wide, high = size
    return tag(
        "svg",
        tag("title", words),
        marks,
        viewBox=f"0 0 {wide} {high}",
        width=wide,
        height=high,
        role="img",
        class_=kind,
    )
