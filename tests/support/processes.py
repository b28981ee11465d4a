"""Processes of idsync without the second that each would import for: `support.nursery` forks them.

They are real ones: arguments, environment, folder, streams and exit code of their own, and they die of signals. What
depends on the interpreter's own start is started `fresh`, or with `subprocess`: its options, what `--help` imports.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile

PATIENCE = 60.0
"""Seconds a command may take."""
OWN_INTERPRETERS = os.environ.get("IDSYNC_INTERPRETERS") == "1"
"""Whether each gets an interpreter of its own after all: so it is in `make crash`."""


def usual_environment() -> dict[str, str]:
    """Return ours without what configures idsync."""
    return {name: value for name, value in os.environ.items() if not name.startswith("IDSYNC_")}


class Process:
    """A process that was forked; its streams are descriptors, /dev/null where none is given."""

    def __init__(
        self,
        module: str,
        words: Sequence[str],
        folder: Path,
        environ: Mapping[str, str],
        streams: tuple[int, int, int],
    ) -> None:
        asked = {"module": module, "words": words, "folder": str(folder), "environ": dict(environ)}
        self._told, tells = socket.socketpair()
        with tells, Path(os.devnull).open("r+b") as nothing:
            descriptors = [nothing.fileno() if stream == subprocess.DEVNULL else stream for stream in streams]
            socket.send_fds(_nursery(), [json.dumps(asked).encode()], [*descriptors, tells.fileno()])
        self._told.settimeout(PATIENCE)
        self.pid = int(self._told.recv(64))
        self._code: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        return self._ended(0.0)

    def wait(self, seconds: float = PATIENCE) -> int:
        """Return the exit code, -N where signal N ended it.

        Raises:
            subprocess.TimeoutExpired: it has not ended within these seconds.
        """
        code = self._ended(seconds)
        if code is None:
            raise subprocess.TimeoutExpired(f"idsync ({self.pid})", seconds)
        return code

    def _ended(self, seconds: float) -> int | None:
        if self._code is None:
            self._told.settimeout(seconds)
            try:
                self._code = int(self._told.recv(64))
            except (TimeoutError, BlockingIOError):
                return None
            self._told.close()
        return self._code

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def started(
    *words: str,
    folder: Path,
    environ: Mapping[str, str],
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.DEVNULL,
    stderr: int = subprocess.DEVNULL,
    fresh: bool = OWN_INTERPRETERS,
    module: str = "idsync",
) -> Process | subprocess.Popen[bytes]:
    """Start `python -m module` with these words in this folder; `fresh`: with an interpreter of its own."""
    line = [sys.executable, "-m", module, *words]
    if fresh:
        return subprocess.Popen(line, cwd=folder, env=environ, stdin=stdin, stdout=stdout, stderr=stderr)
    return Process(module, words, folder, environ, (stdin, stdout, stderr))


def run(
    *words: str, folder: Path, environ: Mapping[str, str], fresh: bool = OWN_INTERPRETERS
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and return what it has said."""
    with TemporaryFile() as out, TemporaryFile() as err:
        process = started(*words, folder=folder, environ=environ, stdout=out.fileno(), stderr=err.fileno(), fresh=fresh)
        try:
            code = process.wait(PATIENCE)
        finally:
            process.kill()
        for file in (out, err):
            file.seek(0)
        return subprocess.CompletedProcess(words, code, out.read().decode(), err.read().decode())


@cache
def _nursery() -> socket.socket:
    """Start the one that forks; it ends when we do."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        line = [sys.executable, "-m", "support.nursery"]
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        server = subprocess.Popen(line, stdin=theirs.fileno(), env=environ)

    def end() -> None:
        ours.close()
        server.wait()

    atexit.register(end)
    return ours
