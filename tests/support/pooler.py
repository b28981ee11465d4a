"""A PgBouncer of a test's own on loopback, before the PostgreSQL of the tests; it may be killed and started again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from support.waiting import free_port, until

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
CONFIG = """\
[databases]
* = host={host} port={server} user={user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = {size}
query_wait_timeout = 10
"""


class Pooler:
    """`pgbouncer` with `size` connections to each database. Nothing of its configuration helps idsync along."""

    def __init__(self, folder: Path, server: str, mode: str, size: int) -> None:
        """`server` is the address of a PostgreSQL that asks for no password."""
        self.port = free_port()
        self._where = urlsplit(server)
        told = {"host": self._where.hostname, "server": self._where.port, "user": self._where.username}
        self._config = folder / "pgbouncer.ini"
        self._config.write_text(CONFIG.format(**told, port=self.port, mode=mode, size=size))
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, direct: str) -> str:
        """Return the address of a database by way of the pooler."""
        return f"postgresql://{self._where.username}@127.0.0.1:{self.port}{urlsplit(direct).path}"

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        line = [str(PROGRAM), str(self._config)]
        line += ["-u", "nobody"] if os.getuid() == 0 else []  # it does not run as root
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(line, stdout=log, stderr=log)
        until(self._answers, "PgBouncer answers", told=self._log.read_text)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url("/postgres")).close()
        except psycopg.OperationalError:
            return False
        return True

    def kill(self) -> None:
        """End it at once, with every connection through it."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None


@contextmanager
def pooler(server: str, mode: str, size: int) -> Iterator[Pooler]:
    """Run one; it becomes another user where this is root, whom pytest's own folders keep out."""
    with tempfile.TemporaryDirectory(prefix="idsync-pgbouncer-") as folder:
        Path(folder).chmod(0o755)
        made = Pooler(Path(folder), server, mode, size)
        made.start()
        try:
            yield made
        finally:
            made.kill()
