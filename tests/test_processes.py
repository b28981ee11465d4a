"""The processes that tests fork behave as those that begin with an interpreter of their own."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest
from support.processes import run, started, usual_environment
from support.settings import write_settings
from support.stores import SHARED

INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
BAD = "[server]\nport = true\n"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("config", "check"), 0),
        (("status",), 0 if SHARED else 1),
        (("-c", "bad.toml", "config", "check"), 2),
        (("nonsense",), 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_a_forked_command_says_and_returns_the_same(tmp_path: Path, words: tuple[str, ...], code: int) -> None:
    """It finds its folder, environment and arguments, and its interpreter's end is as quiet."""
    write_settings(tmp_path, "http://127.0.0.1:9")
    (tmp_path / "bad.toml").write_text(BAD)
    environ = usual_environment() | {"IDSYNC_TEAMS__DATA__MAX_BUDGET": "7"}
    forked, fresh = (run(*words, folder=tmp_path, environ=environ, fresh=fresh) for fresh in (False, True))
    said, meant = (INSTANT.sub("<time>", each.stdout + each.stderr) for each in (forked, fresh))
    assert (forked.returncode, said) == (fresh.returncode, meant)
    assert forked.returncode == code


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV], ids=lambda number: number.name)
def test_a_signal_that_ends_it_is_its_exit_code(tmp_path: Path, number: signal.Signals) -> None:
    reads, writes = os.pipe()
    process = started(
        "sandbox", "--port", "0", folder=tmp_path, environ=usual_environment(), stdout=writes, fresh=False
    )
    os.close(writes)
    with open(reads, "rb") as said:  # noqa: PTH123 - it is no path
        assert said.readline()
    assert process.poll() is None
    process.send_signal(number)
    assert (process.wait(10), process.poll()) == (-number, -number)
