"""Forks processes of idsync from one that has imported everything; started by `support.processes`.

On its stdin, a socket, come messages: a JSON object of `module`, `words`, `folder` and `environ`, with four
descriptors: stdin, stdout, stderr, and a socket on which the process's id is said and, at its end, its exit code, -N for
signal N.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, NoReturn

LARGEST = 1 << 17
"""Bytes of a message."""


def import_everything() -> None:
    import idsync

    for found in pkgutil.walk_packages(idsync.__path__, "idsync."):
        if not found.name.endswith(".__main__"):
            with suppress(ModuleNotFoundError):  # an extra
                importlib.import_module(found.name)
    gc.collect()
    gc.freeze()


def serve(asked: socket.socket) -> None:
    """Fork whatever is asked for until nobody can ask any more; returns in the processes that were forked as well."""
    woken, wakes = socket.socketpair()
    wakes.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakes.fileno())
    living: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([asked, woken], [], [])
        if woken in ready:
            woken.recv(4096)
            for pid, code in ended():
                with living.pop(pid) as told, suppress(BrokenPipeError):  # nobody waits for it
                    told.send(b"%d" % code)
        if asked in ready:
            message, descriptors, _, _ = socket.recv_fds(asked, LARGEST, 4)
            if not message:
                return
            if not (pid := os.fork()):
                for each in (asked, woken, wakes, *living.values()):
                    each.close()
                be_program(json.loads(message), descriptors)
            living[pid] = socket.socket(fileno=descriptors[3])
            living[pid].send(b"%d" % pid)
            for descriptor in descriptors[:3]:
                os.close(descriptor)


def ended() -> Iterator[tuple[int, int]]:
    """Yield the ids and exit codes of processes that have ended."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        yield pid, os.waitstatus_to_exitcode(status)


def be_program(asked: dict[str, Any], descriptors: Sequence[int]) -> NoReturn:
    """Be `python -m module` to its end. What is left is collected, as at an interpreter's end, and tells if it minds."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, descriptor in enumerate(descriptors[:3]):
        os.dup2(descriptor, number)
    for descriptor in descriptors:
        os.close(descriptor)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environ"])
    time.tzset()
    sys.argv = [asked["module"], *asked["words"]]
    code = 1
    try:
        code = main(asked["module"])
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        gc.collect()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def main(module: str) -> int:
    try:
        runpy.run_module(module, run_name="__main__")
    except SystemExit as end:
        return int(end.code or 0)
    return 0


if __name__ == "__main__":
    import_everything()
    serve(socket.socket(fileno=os.dup(0)))
