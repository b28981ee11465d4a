"""What is printed and kept: the machine, rows of figures, and which budgets were missed."""

from __future__ import annotations

import json
import math
import os
import platform
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import idsync

HOW = """\
Everything runs on this machine over loopback, each in a process of its own: the daemon (`idsync serve`), a sandbox in
the part of the gateway, the load generator, and for comparison scim2-server's reference server (its ASGI application
under uvicorn with uvloop and httptools, which is faster than its own command; in memory, nothing durable). Every write
to the daemon is synced to disk before its answer.
  of budget  how many times the budget: for requests/s more is better, for times and growth less is
  p50, p99   measured by the client; of fewer than 100 requests the p99 is the slowest
  CPU        of the server's process, user and system, a request; with the engine where it acts meanwhile
  growth     that CPU held to the same at the small size, or to the group of 2,000
  peak       the largest resident size of the server within the row, MiB
  load       how much of one core the load generator needed: near 100 % a figure would be its own
A leaver of whom no access is known is looked up at the gateway all the same, so the engine acts beside every PATCH of
active. While the gateway hangs it can only begin: that row is nearly SCIM alone.
"""


@dataclass
class Report:
    """Collects every figure and every missed budget, and prints as it goes."""

    quick: bool
    machine: dict[str, str] = field(default_factory=dict)
    figures: list[dict[str, Any]] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    _began: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def begin(self) -> None:
        self.machine = machine()
        self._began = _clocks()
        for name, value in self.machine.items():
            print(f"{name:12} {value}")
        print(f"\n{HOW}")
        if self.quick:
            print("A quick run: short samples and small sizes, to see that all works. Do not quote its figures.\n")

    def end(self) -> None:
        """Say how quiet the machine was, and which budgets were missed; every process of ours has ended by now."""
        elapsed, busy, own = (after - before for after, before in zip(_clocks(), self._began, strict=True))
        others = max(0.0, busy - own) / elapsed / (os.cpu_count() or 1)
        self.machine["others"] = f"{others:.0%}"
        print(f"taken in {elapsed:.0f} s; other programs used {others:.0%} of the machine meanwhile\n")
        if not self.missed:
            print("budgets missed: none")
        for line in self.missed:
            print(f"budgets missed: {line}")

    def save(self, path: Path) -> None:
        kept = {"machine": self.machine, "quick": self.quick, "figures": self.figures, "missed": self.missed}
        path.write_text(json.dumps(kept, indent=1) + "\n")

    def keep(self, part: str, what: str, **figures: Any) -> None:
        self.figures.append({"part": part, "what": what, **figures})

    # -- budgets ------------------------------------------------------------------------------------------------------

    def at_least(self, what: str, measured: float, budget: float, unit: str) -> str:
        """Hold a figure against the least it may be; return how many times the budget it is."""
        return self._against(what, measured, budget, unit, missed=measured < budget)

    def at_most(self, what: str, measured: float, budget: float, unit: str) -> str:
        """Hold a figure against the most it may be; return how many times the budget it is."""
        return self._against(what, measured, budget, unit, missed=measured > budget)

    def _against(self, what: str, measured: float, budget: float, unit: str, *, missed: bool) -> str:
        if missed:
            digits = 0 if measured >= 100 else 2
            self.missed.append(f"{what}: {measured:,.{digits}f}{unit}, budget {budget:,g}{unit}")
        return f"{measured / budget:.2f}x"

    # -- times --------------------------------------------------------------------------------------------------------

    def times(
        self, part: str, what: str, seconds: Iterable[float], *, p50: float | None = None, p99: float | None = None
    ) -> None:
        """Print percentiles in milliseconds beside their budgets (milliseconds)."""
        ordered = sorted(value * 1000 for value in seconds)
        half, most, worst = quantile(ordered, 0.5), quantile(ordered, 0.99), ordered[-1]
        self.keep(part, what, requests=len(ordered), p50_ms=half, p99_ms=most, max_ms=worst)
        name = f"{part}, {what}"
        budgets = [
            f"{which} budget {budget:g} ms: {self.at_most(f'{name}, {which}', value, budget, ' ms')}"
            for which, value, budget in (("p50", half, p50), ("p99", most, p99))
            if budget is not None
        ]
        figures = f"p50 {half:7.1f} ms   p99 {most:7.1f} ms   max {worst:7.1f} ms   of {len(ordered):5d}"
        print(f"  {what:52} {figures}   {'; '.join(budgets)}".rstrip())

    def single(self, part: str, what: str, measured: float, unit: str, *, budget: float | None = None) -> None:
        """Print one figure beside the most it may be."""
        self.keep(part, what, value=measured, unit=unit.strip())
        told = ""
        if budget is not None:
            told = f"   budget {budget:g}{unit}: {self.at_most(f'{part}, {what}', measured, budget, unit)}"
        print(f"  {what:52} {measured:11.1f}{unit}{told}")

    def failures(self, part: str, what: str, errors: Mapping[int, int]) -> None:
        """Print how many answers were errors, by status; 0 is a connection that was closed. None is the budget."""
        count = sum(errors.values())
        self.keep(part, what, value=count, statuses=dict(errors))
        if count:
            self.missed.append(f"{part}, {what}: {count} {dict(errors)}, budget 0")
        print(f"  {what:52} {count:9d}     budget 0{f'   by status: {dict(errors)}' if count else ''}")


def quantile(ordered: list[float], q: float) -> float:
    """Return the nearest-rank quantile of sorted values."""
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)]


# -- the machine ------------------------------------------------------------------------------------------------------


def machine() -> dict[str, str]:
    """Return what a stranger has to know in order to compare."""
    memory = Path("/proc/meminfo").read_text().split()[1]
    return {
        "machine": f"{os.cpu_count()} cores, {_cpu()}, {int(memory) / 1024**2:.0f} GiB, {os.uname().sysname} {os.uname().release}",
        "load before": f"{os.getloadavg()[0]:.2f} (1 minute; well over 0 means that the machine was not quiet)",
        "store on": f"{_file_system(Path(tempfile.gettempdir()))}, {tempfile.gettempdir()}",
        "Python": platform.python_version(),
        "SQLite": f"{sqlite3.sqlite_version}, WAL, synchronous=FULL",
        "idsync": f"{idsync.__version__}; reference: scim2-server {version('scim2-server')}",
    }


def _clocks() -> tuple[float, float, float]:
    """Return the seconds of this instant, of CPU used on this machine, and of CPU used by us and our children."""
    fields = Path("/proc/stat").read_text().split()[1:9]  # user nice system idle iowait irq softirq steal (proc(5))
    busy = sum(int(fields[index]) for index in (0, 1, 2, 5, 6, 7)) / os.sysconf("SC_CLK_TCK")
    return time.monotonic(), busy, sum(os.times()[:4])


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _file_system(path: Path) -> str:
    """Return the type of the file system a path is on: that of the longest mount point above it."""
    mounts = [line.split()[1:3] for line in Path("/proc/self/mounts").read_text().splitlines()]
    above = [(len(point), kind) for point, kind in mounts if path.resolve().is_relative_to(point)]
    return max(above, default=(0, "unknown"))[1]
