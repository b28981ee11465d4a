"""Run a command beside a PostgreSQL of its own: `python tools/with_postgres.py [--memory] COMMAND ...`.

The server lives in a temporary folder, listens on loopback only, syncs every commit as a real one does, and ends with
the command. Its address is in IDSYNC_TEST_POSTGRES. With --memory the folder is in memory where there is room for it:
databases are made and dropped 30 times as fast there, and what a commit takes is no measure. Where PostgreSQL is not
installed, and this is root on Debian, it is installed from Debian's packages.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "400",
    "shared_buffers": "256MB",
    "max_pred_locks_per_transaction": "256",
    "log_min_messages": "fatal",
}
MEMORY = Path("/dev/shm")  # noqa: S108 - not shared: the folder in it has a name of its own
ROOM = 4 * 2**30
"""Bytes that have to be free in memory for a server to live there."""


def binaries() -> Path:
    """Return the folder of initdb and postgres, installing them where that can be done."""
    for _ in range(2):
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
        if found:
            return found[-1].parent
        beside = shutil.which("initdb")
        if beside:
            return Path(beside).resolve().parent
        if os.getuid() != 0 or not shutil.which("apt-get"):
            break
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-q"], env=quiet, stdout=subprocess.DEVNULL, check=False)
        wanted = ["apt-get", "install", "-y", "-q", "--no-install-recommends", "postgresql"]
        subprocess.run(wanted, env=quiet, stdout=subprocess.DEVNULL, check=True)
    sys.exit("PostgreSQL is not installed; on Debian: apt install postgresql")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


class Server:
    """A cluster in a folder; `start` and `kill` may follow each other, for tests that kill it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._bin = binaries()
        self._owner = pwd.getpwnam("postgres") if os.getuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def _pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def make(self) -> None:
        """Make the cluster. Nobody but this machine reaches it, and it holds nothing that is true: no password."""
        if self._owner is not None:
            os.chown(self.folder, self._owner.pw_uid, self._owner.pw_gid)
        arguments = ["-D", str(self.folder / "data"), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"]
        self._run([str(self._bin / "initdb"), *arguments])

    def start(self, **changed: str) -> None:
        """Start it, with some settings changed, and wait until it takes connections."""
        settings = [word for name, value in {**SETTINGS, **changed}.items() for word in ("-c", f"{name}={value}")]
        where = ["-D", str(self.folder / "data"), "-p", str(self.port), "-k", str(self.folder)]
        command = [str(self._bin / "postgres"), *where, *settings]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=self._become)
        ready = [str(self._bin / "pg_isready"), "-q", "-U", "postgres", "-h", "127.0.0.1", "-p", str(self.port)]
        while subprocess.run(ready, check=False).returncode:
            if self._process.poll() is not None:
                sys.exit(f"PostgreSQL did not start:\n{(self.folder / 'log').read_text()[-2000:]}")

    def kill(self) -> None:
        """End all of it as a power cut would, as far as signals can."""
        children = Path(f"/proc/{self._pid}/task/{self._pid}/children").read_text().split()
        self._end(signal.SIGKILL)
        for child in map(int, children):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        while any(Path(f"/proc/{child}").exists() for child in children):
            time.sleep(0.01)
        (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)

    def stop(self) -> None:
        self._end(signal.SIGINT)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait()
            self._process = None

    def _run(self, command: list[str]) -> None:
        done = subprocess.run(command, capture_output=True, text=True, preexec_fn=self._become, check=False)
        if done.returncode:
            sys.exit(done.stderr)

    def _become(self) -> None:
        """PostgreSQL does not run as root."""
        if self._owner is not None:
            os.setgroups([])
            os.setgid(self._owner.pw_gid)
            os.setuid(self._owner.pw_uid)


@contextmanager
def running(*, in_memory: bool = False) -> Iterator[Server]:
    """Make and start a server in a folder of its own, and end it with the block."""
    base = MEMORY if in_memory and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM else None
    with tempfile.TemporaryDirectory(prefix="idsync-postgres-", dir=base, ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        made = Path(folder) / "server"
        made.mkdir()
        server = Server(made)
        server.make()
        server.start()
        try:
            yield server
        finally:
            server.stop()


def main() -> int:
    in_memory = sys.argv[1:2] == ["--memory"]
    with running(in_memory=in_memory) as server:
        environ = {**os.environ, "IDSYNC_TEST_POSTGRES": server.url}
        return subprocess.run(sys.argv[1 + in_memory :], env=environ, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
