"""Another release: a copy of the package with further migrations, run as a process of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from support.daemon import Daemon, Done
from support.processes import usual_environment

import idsync

SOURCE = Path(idsync.__file__).parent


class Release:
    """The package as it is, in a folder of its own, and these migrations (file name to text) beside its own."""

    def __init__(self, folder: Path, migrations: Mapping[str, str]) -> None:
        self._folder = folder
        shutil.copytree(SOURCE, folder / "idsync", ignore=shutil.ignore_patterns("__pycache__"))
        for name, text in migrations.items():
            (folder / "idsync" / "store" / "migrations" / name).write_text(text)

    def daemon(self, settings: Path) -> Daemon:
        return Daemon(settings, fresh=True, PYTHONPATH=str(self._folder))

    def run(self, settings: Path, *words: str) -> Done:
        """Run a command of this release to its end."""
        line = [sys.executable, "-m", "idsync", "-c", str(settings), *words]
        environ = {**usual_environment(), "PYTHONPATH": str(self._folder)}
        done = subprocess.run(line, capture_output=True, text=True, env=environ, cwd=settings.parent, timeout=60)
        return Done(done.returncode, done.stdout, done.stderr)
