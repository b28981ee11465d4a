"""The peer: scim2-server's reference server, in a process of its own.

    .venv/bin/python -m bench.reference --users 2400 --groups 2000 --token secret

Its ASGI application over its in-memory storage, under the same uvicorn, uvloop and httptools as ours, with the bearer
check of its own test server. Everything is in memory and nothing is durable: it answers a write without any disk. Its
`scim2-server` command (wsgiref, a thread and a connection a request) is slower. It is filled before it
serves, by its own handler; ids are made from numbers, so that whoever measures knows them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import socket
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import uvicorn
from scim2_models import Resource, ResourceType, ScimProvider, UnauthorizedException
from scim2_server.applications.asgi import ASGIApplication
from scim2_server.memory import AsyncInMemoryStorage, InMemoryStorage
from scim2_server.requests import ScimRequest
from scim2_server.utils import (
    load_default_resource_types,
    load_default_schemas,
    load_default_service_provider_config,
)

from bench.stage import Server, child, person, team

TOKEN = "bench"
_FIRST_GROUP = 1 << 64


def user_id(number: int) -> str:
    return str(uuid.UUID(int=number))


def group_id(number: int) -> str:
    return str(uuid.UUID(int=_FIRST_GROUP + number))


@contextlib.contextmanager
def reference(users: int, groups: Mapping[str, Sequence[int]]) -> Iterator[Any]:
    """Start the reference; yields a function that waits until it is filled and returns the server.

    `groups` are the numbers of the members by displayName.
    """
    shape = json.dumps({name: [members[0], len(members)] if members else [0, 0] for name, members in groups.items()})
    with child([sys.executable, "-m", "bench.reference", "--users", str(users), "--groups", shape]) as process:

        def ready() -> Server:
            assert process.stdout is not None
            port = process.stdout.readline().strip() or sys.exit("the reference server did not start")
            return Server(f"http://127.0.0.1:{port}/v2", TOKEN, process.pid)

        yield ready


# -- inside the process -----------------------------------------------------------------------------------------------


class _Numbered(InMemoryStorage):
    def __init__(self) -> None:
        super().__init__()
        self._numbers = {"User": itertools.count(), "Group": itertools.count()}

    def generate_id(self, resource_type: ResourceType, resource: Resource[Any]) -> str:
        number = next(self._numbers[str(resource_type.name)])
        return user_id(number) if resource_type.name == "User" else group_id(number)


class _Guarded(ASGIApplication):
    def check_auth(self, request: ScimRequest) -> None:
        scheme, _, token = (request.header("Authorization") or "").partition(" ")
        if scheme.lower() != "bearer" or token != TOKEN:
            raise UnauthorizedException


async def _fill(application: _Guarded, users: int, groups: dict[str, list[int]]) -> None:
    async def post(path: str, body: dict[str, Any]) -> None:
        made = await application.handler.handle(
            ScimRequest(
                method="POST",
                base_url="http://127.0.0.1/v2",
                path=path,
                query={},
                headers=[("Content-Type", "application/scim+json")],
                body=json.dumps(body).encode(),
            )
        )
        assert made.status == 201, made.body

    for number in range(users):
        await post("/Users", person(number))
    for name, (first, count) in groups.items():
        await post("/Groups", team(name, [user_id(first + number) for number in range(count)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--users", type=int, default=0)
    parser.add_argument("--groups", type=json.loads, default={}, help="JSON: displayName to [first user, how many]")
    chosen = parser.parse_args()
    provider = ScimProvider.from_discovery(
        load_default_schemas().values(),
        load_default_resource_types().values(),
        config=load_default_service_provider_config(),
    )
    application = _Guarded(AsyncInMemoryStorage(_Numbered()), provider)
    asyncio.run(_fill(application, chosen.users, chosen.groups))
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    settings = uvicorn.Config(
        application,
        http="httptools",
        loop="uvloop",
        ws="none",
        log_config=None,
        access_log=False,
        timeout_keep_alive=65,
    )
    uvicorn.Server(settings).run(sockets=[listener])


if __name__ == "__main__":
    main()
