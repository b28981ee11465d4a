"""The curl commands of a page as requests: what each is for, the status it promises, and what it sends."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from support.endpoint import Client, Got

from .docs_pages import fences

BASE = "$SCIM"
"""The address of the endpoint in the examples."""
_EXAMPLE = re.compile(
    r"# (?P<says>.+): (?P<status>\d{3})\n(?P<command>curl .+?)(?:\n(?P<keeps>[A-Z]+)=\S+.*)?", re.DOTALL
)


@dataclass(frozen=True)
class Example:
    """`keeps` names the variable that takes the id of the answer."""

    says: str
    status: int
    command: str
    keeps: str | None

    def send(self, client: Client, variables: Mapping[str, str]) -> Got:
        """Send what curl would send; options it is not known to have here are an error."""
        text = self.command
        for name, value in variables.items():
            text = text.replace(f"${name}", value)
        words = iter(shlex.split(text.replace("\\\n", " "))[1:])
        method, url, data, found, headers = "", "", None, list[str](), dict[str, str | None]()
        for word in words:
            if word == "-H":
                name, _, value = next(words).partition(": ")
                headers |= {name: value} if name != "@auth" else {}
            elif word == "-X":
                method = next(words)
            elif word == "-d":
                data = next(words)
            elif word == "--data-urlencode":
                name, _, value = next(words).partition("=")
                found.append(f"{name}={quote(value)}")
            elif word not in ("-s", "-G"):
                assert url == "", f"{word!r} in {self.command}"
                assert word.startswith(BASE), word
                url = word.removeprefix(BASE)
        path = f"{url}?{'&'.join(found)}" if found else url
        return client.send(method or ("POST" if data else "GET"), path, data.encode() if data else None, headers)


def examples(page: Path) -> Iterator[Example]:
    """Yield the examples of a page in their order, and let no curl command of it go untried."""
    for block in fences("sh"):
        if block.page != page:
            continue
        parts = [_EXAMPLE.fullmatch(part.strip()) for part in block.text.split("\n\n")]
        found = [part for part in parts if part]
        assert len(found) == len(re.findall(r"^curl ", block.text, re.MULTILINE)), block.text
        yield from (Example(one["says"], int(one["status"]), one["command"], one["keeps"]) for one in found)
