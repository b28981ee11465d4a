"""A command is told the secret on stdin alone, and what it says back is never shown with the secret in it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from support.waiting import until

from idsync.sinks.command import CommandSink

from .handed import SECRET, deliver, delivery, problems, refused

RECORD = """#!/bin/sh
cat /proc/$$/cmdline > "$1.argv"; cat /proc/$$/environ > "$1.environ"; cat > "$1.stdin"
echo "taken"; echo "thank you" >&2
"""


class Program:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "put-key"

    def write(self, text: str, mode: int = 0o755) -> str:
        self.path.write_text(f"#!/bin/sh\n{text}\n" if not text.startswith("#!") else text)
        self.path.chmod(mode)
        return str(self.path)


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


def test_the_secret_is_one_line_of_stdin_and_nowhere_else(
    program: Program, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IDSYNC_ROUTERO__ADMIN_KEY", "sk-not-for-children")
    monkeypatch.setenv("REGION", "eu")
    record = program.write(RECORD)
    deliver(
        CommandSink("put", [record, f"{tmp_path}/told", "{team}", "{alias}"], ["REGION", "MISSING"]), alias="-rf/.."
    )
    assert (tmp_path / "told.stdin").read_text() == f"{SECRET}\n"
    arguments = (tmp_path / "told.argv").read_text().split("\0")[1:-1]
    assert arguments == [record, f"{tmp_path}/told", "data-science", "%2Drf%2F.."]
    names = [entry.split("=")[0] for entry in (tmp_path / "told.environ").read_text().split("\0")[:-1]]
    assert sorted(names) == ["PATH", "REGION"]
    assert SECRET not in (tmp_path / "told.argv").read_text() + (tmp_path / "told.environ").read_text()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("read key; echo store is down >&2; exit 3", "exit code 3: store is down"),
        ('read key; echo "bad key $key" >&2; exit 1', "bad key ***"),
        ('read key; echo "bad key ${key#can}" >&2; exit 1', "bad key ***"),
        ('read key; echo "bad key $(printf %s "$key" | cut -c5-14)" >&2; exit 1', "bad key ***"),
        ('read key; echo "cannot take $(printf %s "$key" | base64)" >&2; exit 1', "cannot take ***"),
        (
            'read key; echo "cannot take $(printf %s "$key" | od -An -tx1 | tr -d " \\n")" >&2; exit 1',
            "cannot take ***",
        ),
        ('read key; yes "$key" | head -c 3000000 >&2; exit 1', "exit code 1: ***"),
        ("read key; printf 'no\\033[2Jbody\\n\\nhome' >&2; exit 1", "no\\x1b[2Jbody home"),
        ("read key; exit 4", "exit code 4; it said nothing"),
        ("read key; kill -9 $$", "killed by signal 9"),
        ("read key; sleep 60", "stopped after 0.5 s; nobody knows"),
    ],
)
def test_a_command_that_fails_is_told_of_in_one_sentence_without_the_secret(
    program: Program, script: str, says: str
) -> None:
    sentence = refused(CommandSink("put", [program.write(script)], timeout=0.5 if "sleep" in script else 30))
    assert says in sentence
    assert len(sentence) < 600
    assert "\n" not in sentence


@pytest.mark.parametrize("script", ["exit 0", "head -c 5 >/dev/null"])
def test_a_command_that_does_not_read_the_secret_has_not_taken_it(program: Program, script: str) -> None:
    assert "without reading the secret" in refused(CommandSink("put", [program.write(script)], timeout=30))


def test_what_no_pipe_holds_is_no_key(program: Program) -> None:
    sink = CommandSink("put", [program.write("cat > /dev/null")], timeout=30)
    assert "longer than a pipe holds" in refused(sink, SECRET * 10_000)


def test_what_a_command_starts_is_stopped_with_it(program: Program, tmp_path: Path) -> None:
    script = f"sh -c 'echo $$ > {tmp_path}/new && mv {tmp_path}/new {tmp_path}/pid; exec sleep 600' & wait"
    sink = CommandSink("put", [program.write(script)], timeout=60)

    async def stop_in_the_middle() -> None:
        delivering = asyncio.create_task(sink.deliver(delivery()))
        await asyncio.to_thread(until, (tmp_path / "pid").exists, "it has started something")
        delivering.cancel()
        await asyncio.wait([delivering])

    asyncio.run(stop_in_the_middle())
    pid = int((tmp_path / "pid").read_text())
    until(lambda: not _runs(pid), "what the command started is gone")


def test_what_a_command_leaves_behind_neither_delays_it_nor_ends(program: Program, tmp_path: Path) -> None:
    script = f"read key; sleep 600 & echo $! > {tmp_path}/pid"
    deliver(CommandSink("put", [program.write(script)], timeout=30))
    pid = int((tmp_path / "pid").read_text())
    assert _runs(pid)
    os.kill(pid, 9)


def _runs(pid: int) -> bool:
    """Say whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("mode", "says"), [(0o755, ""), (0o644, "is no program"), (0o777, "others may write"), (0o775, "others may write")]
)
def test_a_command_that_others_may_exchange_is_not_run(program: Program, mode: int, says: str) -> None:
    sink = CommandSink("put", [program.write("cat > /dev/null", mode)])
    if not says:
        assert problems(sink) == []
        deliver(sink)
        return
    assert says in problems(sink)[0]
    assert says in refused(sink)


def test_a_command_that_is_not_there_is_told_of(tmp_path: Path) -> None:
    assert "No such file" in problems(CommandSink("put", [f"{tmp_path}/missing"]))[0]
