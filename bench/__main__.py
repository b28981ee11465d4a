"""`make bench`: leavers, joiners, waves, rotations, steady pushes, SCIM requests and polls, beside the budgets.

    .venv/bin/python -m bench [leavers] [joiners] [wave] [rotation] [pushes] [scim] [polls] [replicas] [million] [--json FILE]

Without a part, all of them but the last, in about twenty minutes; BENCH_QUICK=1 takes short samples of smaller sizes.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from bench.joiners import joiners
from bench.leavers import one_at_a_time, wave, wave_beside_pushes
from bench.load import Loader, loader
from bench.million import million
from bench.polls import polls
from bench.pushes import steady
from bench.replicas import replicas
from bench.report import Report
from bench.rotation import SHARED, rotation
from bench.scim import FULL, QUICK, scim
from bench.stage import staged

PARTS = ("leavers", "joiners", "wave", "rotation", "pushes", "scim", "polls", "replicas")
ASKED_FOR = ("million",)
"""Only when named: it takes ten minutes more."""
GATEWAY = 0.005
"""Seconds the gateway takes to answer in the parts about leavers."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "parts",
        nargs="*",
        metavar="PART",
        help=f"of {', '.join(PARTS)}; all of them without. And {', '.join(ASKED_FOR)}",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure to a file as well")
    chosen = parser.parse_args()
    if unknown := set(chosen.parts) - {*PARTS, *ASKED_FOR}:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    report = Report(quick=bool(os.environ.get("BENCH_QUICK")))
    report.begin()
    with loader() as load:
        for part in (*PARTS, *ASKED_FOR):
            if part in (chosen.parts or PARTS):
                try:
                    take(part, load, report)
                except SystemExit as missing:  # a program that is not there
                    if chosen.parts:
                        raise
                    print(f"{part}: left out: {missing}")
    report.end()
    if chosen.json:
        report.save(chosen.json)


def take(part: str, load: Loader, report: Report) -> None:
    """Take one part, each on stages of its own."""
    crowd = 200 if report.quick else 1000
    if part == "leavers":
        with staged(load, latency=GATEWAY) as bench:
            one_at_a_time(bench, report, crowd // 10)
    elif part == "joiners":
        with staged(load, latency=GATEWAY) as bench:
            joiners(bench, report, crowd // 10)
    elif part == "wave":
        with staged(load, latency=GATEWAY) as bench:
            wave(bench, report, crowd)
        with staged(load, latency=GATEWAY) as bench:
            wave_beside_pushes(bench, report, crowd)
    elif part == "rotation":
        with staged(load, latency=GATEWAY, more=SHARED) as bench:
            rotation(bench, report, 5 if report.quick else 30)
    elif part == "pushes":
        with staged(load, latency=GATEWAY) as bench:
            steady(bench, report, 10.0 if report.quick else 60.0)
    elif part == "polls":
        polls(report)
    elif part == "million":
        first, whole, few = (1_000, 5_000, 10) if report.quick else (20_000, 100_000, 100)
        million(load, report, first=first, whole=whole, leavers=few, seconds=1.0 if report.quick else 8.0)
    elif part == "replicas":
        people, crowd, seconds = (500, 100, 2.0) if report.quick else (1000, 300, 4.0)
        replicas(load, report, people=people, crowd=crowd, seconds=seconds)
    else:
        scim(load, report, QUICK if report.quick else FULL)


if __name__ == "__main__":
    main()
