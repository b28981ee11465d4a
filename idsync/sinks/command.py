"""A secret on the standard input of a command. Nothing of it is in the arguments or the environment."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import stat
import sys
import termios
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

from idsync.errors import SinkFailed
from idsync.sinks.base import Delivery
from idsync.sinks.file import OTHERS_WRITE
from idsync.sinks.places import placed
from idsync.sinks.scrub import scrub

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where the command finds others, when idsync itself has no PATH."""
SAID = 400
"""So many characters of what it wrote to stderr are shown when it fails."""
READ = 8192
"""So many bytes of it are kept; the rest is read and thrown away."""
AFTERWARDS = 1.0
"""Seconds for the rest of stderr once the command has ended: what it leaves behind may hold it open."""


class CommandSink:
    """Runs a command for each secret: exit code 0 within `timeout` seconds means that it has taken it.

    Its output is thrown away, since it may echo the secret. The environment is PATH and the variables that are named.
    """

    def __init__(
        self, name: str, command: Sequence[str], environment: Sequence[str] = (), timeout: float = 10.0
    ) -> None:
        self.name = name
        self._command = tuple(command)
        self._environment = tuple(environment)
        self._timeout = timeout

    async def check(self) -> list[str]:
        return self.problems()

    async def close(self) -> None:
        """Hold nothing open."""

    def problems(self) -> list[str]:
        """Look at the command without running it."""
        program = Path(self._command[0])
        try:
            found = program.stat()
        except OSError as error:
            return [f"{program} cannot be run: {error.strerror}; give the whole path of a program"]
        if not stat.S_ISREG(found.st_mode) or not os.access(program, os.X_OK):
            return [f"{program} is no program that uid {os.geteuid()} may run; chmod +x {program}"]
        if found.st_mode & OTHERS_WRITE or found.st_uid not in (0, os.geteuid()):
            return [f"others may write {program}, and would be handed every new key; chmod go-w, owner root"]
        return []

    async def deliver(self, delivery: Delivery) -> None:
        arguments = [placed(argument, delivery.alias, delivery.team) for argument in self._command]
        if problems := self.problems():
            raise SinkFailed(problems[0])
        secret = delivery.secret.get_secret_value()
        with _line(secret) as line:
            async with _ear() as (heard, mouth):
                try:
                    process = await asyncio.create_subprocess_exec(
                        *arguments,
                        stdin=line,
                        stdout=DEVNULL,
                        stderr=mouth,
                        env=self._variables(),
                        cwd="/",
                        start_new_session=True,
                    )
                except OSError as error:
                    msg = f"{arguments[0]} cannot be run: {error.strerror}; try it by hand as uid {os.geteuid()}"
                    raise SinkFailed(msg) from None
                finally:
                    os.close(mouth)
                code = await self._wait(process)
                if code == 0 and not _unread(line):
                    return
                done, _ = await asyncio.wait([heard], timeout=AFTERWARDS)
                raise self._failed(code, _unread(line), scrub(heard.result(), secret, SAID) if done else "")

    def _variables(self) -> dict[str, str]:
        named = {name: os.environ[name] for name in self._environment if name in os.environ}
        return {"PATH": os.environ.get("PATH", PATH), **named}

    async def _wait(self, process: Process) -> int:
        try:
            async with asyncio.timeout(self._timeout):
                return await process.wait()
        except TimeoutError:
            msg = f"{self._command[0]} was stopped after {self._timeout:g} s; nobody knows whether it took the secret"
            raise SinkFailed(msg) from None
        finally:
            await _end(process)

    def _failed(self, code: int, unread: bool, said: str) -> SinkFailed:
        ended = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        ended = f"{ended} without reading the secret, one line on its stdin" if unread else ended
        return SinkFailed(f"{self._command[0]} {ended}" + (f": {said}" if said else "; it said nothing on stderr"))


@contextlib.contextmanager
def _line(secret: str) -> Iterator[int]:
    """Put the secret into a pipe and return the end to read: nothing is left to be written when the command runs.

    Raises:
        SinkFailed: it is longer than a pipe holds.
    """
    end, ours = os.pipe()
    try:
        line = f"{secret}\n".encode()
        os.set_blocking(ours, False)
        if os.write(ours, line) < len(line):
            raise SinkFailed("the secret is longer than a pipe holds; that is no key of a gateway")
    except BaseException:
        os.close(end)
        raise
    finally:
        os.close(ours)
    try:
        yield end
    finally:
        os.close(end)


def _unread(line: int) -> bool:
    """Say whether something is left in the pipe; the line break may be."""
    left = int.from_bytes(fcntl.ioctl(line, termios.FIONREAD, b"\0" * 4), sys.byteorder)
    return left > 1


@contextlib.asynccontextmanager
async def _ear() -> AsyncIterator[tuple[asyncio.Task[str], int]]:
    """Open a pipe for stderr, read in the background; what a command leaves behind may hold the other end open."""
    end, mouth = os.pipe()
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    pipe = os.fdopen(end, "rb", buffering=0)
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    listening = asyncio.create_task(_listen(reader))
    try:
        yield listening, mouth
    finally:
        listening.cancel()
        transport.close()


async def _listen(reader: asyncio.StreamReader) -> str:
    """Read to the end and return the beginning."""
    kept = b""
    while chunk := await reader.read(READ):
        kept += chunk[: READ - len(kept)]
    return kept.decode("utf-8", "replace")


async def _end(process: Process) -> None:
    """Kill the command and what it started, if it has not ended by itself."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
