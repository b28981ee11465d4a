"""The bar of a long listing: drawn on a terminal from what the store says, gone when the work is over, and nowhere else."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

from support.settings import store_url, write_settings

from idsync.store import facts
from idsync.store.opening import store_of

WORK = """
import sys
from idsync import config
from idsync.cli.progress import shown
shown(config.load(sys.argv[1], {}).config, ["poll"], sys.stdin.readline)
"""


def test_a_bar_is_drawn_on_a_terminal_and_wiped(tmp_path: Path) -> None:
    settings = _half_way(tmp_path)
    ours, theirs = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", WORK, str(settings)], stdin=subprocess.PIPE, stderr=theirs) as child:
        os.close(theirs)
        shown = b""
        while b"users" not in shown:
            shown += os.read(ours, 1024)
        assert child.stdin is not None
        child.stdin.close()
        child.wait()
    shown += os.read(ours, 65536)
    os.close(ours)
    assert b"poll [" + b"#" * 15 + b"." * 15 + b"] 5,000/10,000 users" in shown
    assert shown.endswith(b"\r\x1b[K")


def test_nothing_is_drawn_into_a_file(tmp_path: Path) -> None:
    child = [sys.executable, "-c", WORK, str(_half_way(tmp_path))]
    assert subprocess.run(child, input=b"\n", capture_output=True, check=True).stderr == b""


def _half_way(folder: Path) -> Path:
    """Return a configuration whose store says that a listing is half way."""
    settings = write_settings(folder, "http://127.0.0.1:9")
    store = store_of(store_url(settings))
    store.open()
    said = {"what": "users", "done": 5000, "of": 10000}
    store.write(lambda db: facts.put(db, "progress:poll", said, 1.0))
    store.close()
    return settings
