"""The operations port over an opened core, and somebody who looks at it over HTTP as a browser would."""

from __future__ import annotations

import asyncio
import http.client
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode
from xml.etree import ElementTree

from support.home import Home
from support.waiting import until

from idsync.store.tokens import live_tokens
from idsync.web.auth import Tokens
from idsync.web.servers import Server, operations_app


@dataclass
class Seen:
    """An answer. The page writes HTML that is XML too, so that it can be asked for its parts."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def tree(self) -> ElementTree.Element:
        return ElementTree.fromstring(self.text.removeprefix("<!DOCTYPE html>"))  # noqa: S314

    def every(self, tag: str) -> list[ElementTree.Element]:
        return list(self.tree.iter(tag))

    def fields(self, action: str) -> dict[str, str]:
        """Return the hidden fields of the form that leads there."""
        [form] = [form for form in self.every("form") if form.get("action") == action]
        return {one.get("name", ""): one.get("value", "") for one in form.iter("input") if one.get("type") == "hidden"}

    def says(self, words: str) -> bool:
        return words in " ".join("".join(self.tree.itertext()).split())


@dataclass
class Visitor:
    """A browser without a screen: it keeps cookies and sends Origin with its forms."""

    port: int
    cookies: dict[str, str] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, **headers: str) -> Seen:
        return self._ask("GET", path, None, headers)

    def post(self, path: str, form: Mapping[str, str], **headers: str) -> Seen:
        sent = {"Origin": self.origin, "Content-Type": "application/x-www-form-urlencoded", **headers}
        return self._ask("POST", path, urlencode(form), sent)

    def log_in(self, token: str, **headers: str) -> Seen:
        return self.post("/login", {"token": token, "next": "/holds"}, **headers)

    def decide(self, path: str, what: str = "approve", **changed: str) -> Seen:
        """Follow a hold's page to the question, and answer it; `changed` fields and headers are sent instead."""
        [asked] = [link.get("href", "") for link in self.get(path).every("a") if f"/{what}?" in link.get("href", "")]
        headers = {name: changed.pop(name) for name in ("Origin",) if name in changed}
        form = {**self.get(asked).fields(f"{path}/{what}"), "sure": "yes", **changed}
        return self.post(f"{path}/{what}", form, **headers)

    def _ask(self, method: str, path: str, body: str | None, headers: Mapping[str, str]) -> Seen:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        kept = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())} if self.cookies else {}
        try:
            connection.request(method, path, body, {**kept, **headers})
            answer = connection.getresponse()
            seen = Seen(
                answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read().decode()
            )
        finally:
            connection.close()
        if cookie := seen.headers.get("set-cookie"):
            name, _, value = cookie.partition(";")[0].partition("=")
            self.cookies[name] = value
        return seen


class Served:
    """Serves the operations port of a core, as the daemon does, on the core's own loop."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        core = self.home.core
        self.tokens = Tokens(lambda: live_tokens(core.store.reader()), core.clock)
        commands = core.commands(alone=False, on_tokens=self.tokens.reload)
        self.page, app = operations_app(
            lambda: core.config,
            store=core.store,
            clock=core.clock,
            metrics=core.metrics,
            tokens=self.tokens,
            ready=list,
            gateway=core.gateway.name,
            run=commands.run,
        )
        self._server = Server(app, self._listener)
        self._task = self.home.run(self._begin())
        return self

    async def _begin(self) -> asyncio.Task[None]:
        task = asyncio.create_task(self._server.run())
        await self._server.started()
        return task

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop()
        until(self._task.done, "the server has ended")
        self._listener.close()
        self.page.close()

    def token(self, name: str = "ada", scope: str = "approve", **more: Any) -> dict[str, Any]:
        """Make an operator's token the way the command line does."""
        asked = {"name": name, "kind": "operator", "scope": scope, "by": "root", **more}
        return self.home.run(self.home.core.commands(alone=False, on_tokens=self.tokens.reload).run("token.new", asked))

    def revoke(self, token_id: str) -> None:
        commands = self.home.core.commands(alone=False, on_tokens=self.tokens.reload)
        self.home.run(commands.run("token.revoke", {"token_id": token_id, "by": "root"}))

    def visitor(self, token: str | None = None) -> Visitor:
        """Return somebody who looks, logged in with a token if one is given."""
        visitor = Visitor(self.port)
        if token is not None:
            assert visitor.log_in(token).status == 303
        return visitor

    def operator(self, scope: str = "approve", name: str = "ada") -> Visitor:
        return self.visitor(self.token(name, scope)["token"])
