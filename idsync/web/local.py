"""The command line's way into a running daemon: HTTP over a Unix socket beside the store, for our own user and root.

The folder is 0700 and the kernel tells who is at the other end; a command never crosses a network.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from idsync.commands import FOLLOWS_FROM_THE_CONFIGURATION
from idsync.config import Config, comparable, digest
from idsync.errors import IdsyncError, OtherConfiguration, StoreError, UsageError
from idsync.localuser import accountable
from idsync.web.paths import DIGEST, socket_path

Run = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]
LONGEST = 107
"""Bytes of a socket's path (sun_path is 108 on Linux, with its closing zero)."""
CREDENTIALS = struct.Struct("3i")
PEER = "uid"
"""The host of a caller at this socket; the port is its user id."""

log = structlog.get_logger(__name__)


class PeerChecked(HttpToolsProtocol):
    """Closes the connection of anybody who is neither us nor root."""

    def connection_made(self, transport: Any) -> None:
        raw = transport.get_extra_info("socket")
        _, uid, _ = CREDENTIALS.unpack(raw.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))
        if uid not in (0, os.getuid()):
            log.warning("local.refused", uid=uid)
            transport.close()
            return
        super().connection_made(transport)
        self.client = (PEER, uid)  # a Unix socket has no address; ASGI hands this on as host and port


def listen(store: Path) -> socket.socket:
    """Make the folder and the socket; a dead daemon's socket is replaced, the store's lock says that it is dead."""
    path = socket_path(store)
    if len(str(path).encode()) > LONGEST:
        msg = f"the store's path is too long for the command socket beside it ({path}); at most {LONGEST} bytes"
        raise StoreError(msg)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.parent.chmod(0o700)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(0o600)
    return listener


def _actor(request: Request, claimed: object) -> str:
    """Return who asks, by the kernel's word and not by theirs.

    Raises:
        UsageError: the caller is not known.
    """
    if request.client is None or request.client.host != PEER:
        raise UsageError("whoever asks cannot be told")
    return accountable(request.client.port, claimed)


def local_app(run: Run, current: Callable[[], Config]) -> Starlette:
    """Build the application: POST /v1/{command} with the parameters as JSON, GET /v1/configuration.

    A command may say by which configuration it is meant (its digest, in a header). Where `current` is another, a command
    whose effect follows from the configuration is refused, any other is told; both with ours, secrets left out.
    """

    def told(request: Request) -> dict[str, Any]:
        """Return what belongs into the answer to a command that was meant by another configuration than ours."""
        meant = request.headers.get(DIGEST)
        return {} if meant in (None, digest(current())) else {"configuration": comparable(current())}

    async def configuration(request: Request) -> JSONResponse:
        return JSONResponse({"configuration": comparable(current())})

    async def command(request: Request) -> JSONResponse:
        name, other = request.path_params["name"], told(request)
        if other and name in FOLLOWS_FROM_THE_CONFIGURATION:
            error = OtherConfiguration()
            body = {"error": str(error), "exit_code": error.exit_code, "other_configuration": True, **other}
            return JSONResponse(body, 409)
        try:
            params = json.loads(await request.body() or b"{}")
            if isinstance(params, dict) and "by" in params:
                params["by"] = _actor(request, params["by"])
            return JSONResponse({"result": await run(name, params), **other})
        except IdsyncError as failed:
            return JSONResponse({"error": str(failed), "exit_code": failed.exit_code, **other}, 409)
        except Exception:
            log.exception("local.crashed", command=name)
            said = "the daemon failed unexpectedly; its log says more"
            return JSONResponse({"error": said, "exit_code": 1}, 500)

    look = Route("/v1/configuration", configuration, methods=["GET"])
    return Starlette(routes=[look, Route("/v1/{name}", command, methods=["POST"])])
