"""Okta and Graph as tests look at them: who is there, what went wrong on purpose, what was asked in which order."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from sandbox.client import Answer, Client

from idsync.sandbox.graph.service import CLIENT, SECRET, TENANT
from idsync.sandbox.okta.service import TOKEN
from idsync.sandbox.server import Sandbox

Row = dict[str, Any]


class Idp(Client):
    """The hooks of one stand-in, and its API as a caller with good credentials sees it."""

    name = ""

    def __init__(self, sandbox: Sandbox) -> None:
        super().__init__(sandbox)
        self.ids: dict[str, str] = {}  # of what was seeded here, by login and by name

    # -- before -----------------------------------------------------------------------------------------------------

    def seed(self, **what: Any) -> dict[str, str]:
        """Seed the sections and return the ids by login and name, which `ids` keeps."""
        made = self._hook("seed", what)
        self.ids |= {name: ref for section in made.values() for name, ref in section.items()}
        return self.ids

    def options(self, **changed: Any) -> Row:
        shown: Row = self._hook("options", changed)
        return shown

    def reset(self) -> None:
        self._hook("reset")
        self.ids = {}

    # -- while ------------------------------------------------------------------------------------------------------

    def act(self, do: str, **what: Any) -> Row:
        """Do something to the directory: see the acts of the stand-in."""
        result: Row = self._hook("act", {"do": do, **what})["results"][0]
        return result

    def break_with(self, path: str, **rule: Any) -> None:
        """`path` is without the prefix of the stand-in, and may end in `*`."""
        self._hook("faults", [{"path": path, **rule}])

    def mend(self) -> None:
        self.call("DELETE", f"/_sandbox/{self.name}/faults")

    def fired(self) -> int:
        """Return how often any fault has acted."""
        return sum(int(rule["fired"]) for rule in self.get(f"/_sandbox/{self.name}/faults").body["faults"])

    def move_clock(self, by: float) -> None:
        self._hook("clock", {"advance": by})

    # -- after ------------------------------------------------------------------------------------------------------

    def asked(self, since: int = 0) -> list[Row]:
        """Return the request log."""
        rows: list[Row] = self.get(f"/_sandbox/{self.name}/log", {"since": since}).body["entries"]
        return rows

    def paths(self, since: int = 0) -> list[str]:
        return [row["path"] for row in self.asked(since)]

    def forget(self) -> None:
        self.call("DELETE", f"/_sandbox/{self.name}/log")

    def _hook(self, name: str, body: Any = None) -> Any:
        return self.ok(f"/_sandbox/{self.name}/{name}", body)


class Okta(Idp):
    """An org."""

    name = "okta"

    @property
    def org_url(self) -> str:
        return self.sandbox.okta_url

    def api(self, path: str, query: Row | None = None, method: str = "GET", **how: Any) -> Answer:
        """Call /api/v1/... with the SSWS token, or the address of a link as it is."""
        headers = {"Authorization": f"SSWS {TOKEN}"} | dict(how.pop("headers", {}))
        return self.call(method, _address(self.org_url, path, query), key=None, headers=headers, **how)


class Graph(Idp):
    """A tenant."""

    name = "graph"
    _token = ""

    @property
    def graph_url(self) -> str:
        return self.sandbox.graph_url

    @property
    def authority(self) -> str:
        return f"{self.sandbox.entra_url}/{TENANT}"

    def reset(self) -> None:
        super().reset()
        self.forget_token()

    def forget_token(self) -> None:
        self._token = ""

    def token(self, **form: Any) -> Answer:
        """Ask Entra for a token, with the demo client's secret unless the form says otherwise."""
        usual = {
            "grant_type": "client_credentials",
            "client_id": CLIENT,
            "client_secret": SECRET,
            "scope": "https://graph.microsoft.com/.default",
        }
        fields = {name: value for name, value in (usual | form).items() if value is not None}
        return self.post(_address(self.authority, "/oauth2/v2.0/token", None), urlencode(fields).encode(), key=None)

    def api(self, path: str, query: Row | None = None, method: str = "GET", **how: Any) -> Answer:
        """Call /v1.0/... with a token, or the address of a link as it is."""
        if not self._token:
            self._token = self.token().body["access_token"]
        headers = {"Authorization": f"Bearer {self._token}"} | dict(how.pop("headers", {}))
        return self.call(method, _address(self.graph_url, path, query), key=None, headers=headers, **how)


def _address(base: str, path: str, query: Row | None) -> str:
    """Of this sandbox, without scheme and host; links come with both."""
    full = path if path.startswith("http") else base + path
    rest = "/" + full.split("/", 3)[3]
    return f"{rest}?{urlencode(query)}" if query else rest
