"""A file is whole or as it was, readable for nobody else, and where the configuration says, whatever the names are."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from idsync.sinks.file import FileSink

from .handed import SECRET, deliver, delivery, problems, refused

OTHER_USER = 12345


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    folder = tmp_path / "keys"
    folder.mkdir(mode=0o700)
    return folder


@pytest.mark.parametrize("mode", [0o600, 0o640])
@pytest.mark.parametrize("umask", [0, 0o177])
def test_a_secret_arrives_alone_and_closed_and_takes_the_place_of_the_old_one(
    keys: Path, mode: int, umask: int
) -> None:
    sink = FileSink("files", f"{keys}/{{alias}}", mode)
    before = os.umask(umask)
    try:
        for secret in ("the-first-secret", SECRET):
            deliver(sink, secret)
    finally:
        os.umask(before)
    assert [file.name for file in keys.iterdir()] == ["ds-prod"]
    assert (keys / "ds-prod").read_text() == SECRET
    assert (keys / "ds-prod").stat().st_mode & 0o7777 == mode


def test_folders_that_placeholders_name_are_made_for_nobody_else(keys: Path) -> None:
    sink = FileSink("files", f"{keys}/{{team}}/now/{{alias}}.key")
    assert problems(sink) == []
    deliver(sink)
    assert (keys / "data-science/now/ds-prod.key").read_text() == SECRET
    assert {folder.stat().st_mode & 0o7777 for folder in keys.glob("**/")} == {0o700}


@pytest.mark.parametrize(
    "names",
    [
        ["..", ".", "%2E.", "...", ".hidden", "hidden"],
        ["../../etc/passwd", "/etc/passwd", "a/b", "a%2Fb", "a\\b", "a\0b", "a\nb", "-rf", "--", "ünï", "{team}"],
    ],
)
def test_whatever_a_key_is_called_its_file_is_in_the_folder_and_its_own(keys: Path, names: list[str]) -> None:
    for name in names:
        deliver(FileSink("files", f"{keys}/{{alias}}"), secret=f"secret of {name!r}", alias=name)
    found = {file.read_text() for file in keys.iterdir()}
    assert found == {f"secret of {name!r}" for name in names}
    assert all(file.is_file() and not file.name.startswith((".", "-")) for file in keys.iterdir())


# -- what it refuses --------------------------------------------------------------------------------------------------


def _open_above(keys: Path) -> None:
    keys.parent.chmod(0o777)


def _linked(keys: Path) -> None:
    (keys.parent / "elsewhere").write_text("old")
    (keys / "ds-prod").unlink()
    (keys / "ds-prod").symlink_to(keys.parent / "elsewhere")


def _folder_there(keys: Path) -> None:
    (keys / "ds-prod").unlink()
    (keys / "ds-prod").mkdir()


def _gone(keys: Path) -> None:
    (keys / "ds-prod").unlink()
    keys.rmdir()


def _somebody_elses(keys: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    os.chown(keys, OTHER_USER, OTHER_USER)


@pytest.mark.parametrize(
    ("bent", "says"),
    [
        (lambda keys: keys.chmod(0o777), "others may write"),
        (lambda keys: keys.chmod(0o1777), "others may write"),
        (lambda keys: keys.chmod(0o770), "others may write"),
        (_open_above, "others may write"),
        (_somebody_elses, "belongs to uid 12345"),
        (_linked, "is a symbolic link"),
        (_folder_there, "is no plain file"),
        (_gone, "is not there; make it"),
    ],
)
def test_a_place_that_others_could_exchange_is_refused_and_left_as_it_was(
    keys: Path, bent: Callable[[Path], None], says: str
) -> None:
    sink = FileSink("files", f"{keys}/ds-prod")
    deliver(sink, "old")
    assert problems(sink) == []
    bent(keys)
    assert says in refused(sink)
    assert [found for found in problems(sink) if says in found]
    left = [file for file in keys.parent.rglob("*") if file.is_file()]
    assert all(file.read_text() == "old" for file in left)


def test_two_never_write_in_one_folder_at_a_time(keys: Path) -> None:
    opened = os.open(keys, os.O_RDONLY)
    fcntl.flock(opened, fcntl.LOCK_EX)
    sink = FileSink("files", f"{keys}/{{alias}}", patience=0.0)
    assert "another process is writing" in refused(sink)
    os.close(opened)
    deliver(sink)


def test_many_deliveries_at_once_wait_for_each_other(keys: Path) -> None:
    sinks = [FileSink(name, f"{keys}/{{alias}}") for name in ("one", "other")]

    async def all_at_once() -> None:
        handed = [delivery(f"secret {number}", alias=f"key-{number}") for number in range(10)]
        await asyncio.gather(*(sink.deliver(entry) for entry in handed for sink in sinks))

    asyncio.run(all_at_once())
    assert {file.name: file.read_text() for file in keys.iterdir()} == {
        f"key-{number}": f"secret {number}" for number in range(10)
    }


def test_a_key_of_no_team_has_no_file_in_a_teams_folder(keys: Path) -> None:
    assert "wants a team" in refused(FileSink("files", f"{keys}/{{team}}/{{alias}}"), team=None)
    assert list(keys.iterdir()) == []


# -- death in the middle ----------------------------------------------------------------------------------------------

WRITER = """
import asyncio, resource, signal, sys
from pydantic import SecretStr
from idsync.errors import SinkFailed
from idsync.sinks.base import Delivery
from idsync.sinks.file import FileSink
signal.signal(signal.SIGXFSZ, signal.SIG_DFL if sys.argv[2] == "killed" else signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (7, 7))
try:
    asyncio.run(FileSink("files", sys.argv[1]).deliver(Delivery(SecretStr(sys.stdin.read()), "a", None, "h", None)))
except SinkFailed as error:
    sys.exit(str(error))
"""
"""Writes a file where only seven bytes fit: at the eighth it is killed, or told that the disk is full."""


@pytest.mark.parametrize("fate", ["killed", "full"])
def test_a_write_that_breaks_off_leaves_the_old_secret_and_the_next_one_arrives(keys: Path, fate: str) -> None:
    sink = FileSink("files", f"{keys}/{{alias}}")
    deliver(sink, "the-old-secret", alias="a")
    command = [sys.executable, "-c", WRITER, f"{keys}/{{alias}}", fate]
    done = subprocess.run(command, input=SECRET, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == (-signal.SIGXFSZ if fate == "killed" else 1), done.stderr
    assert (keys / "a").read_text() == "the-old-secret"
    assert SECRET not in done.stderr
    assert len(list(keys.iterdir())) == (2 if fate == "killed" else 1)
    deliver(sink, alias="a")
    assert {file.name: file.read_text() for file in keys.iterdir()} == {"a": SECRET}
