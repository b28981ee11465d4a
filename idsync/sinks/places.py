"""Where a sink puts a secret: its template with {team} and {alias} filled in, so that no name leads out of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import quote

from idsync.errors import SinkFailed

PLACEHOLDERS = ("team", "alias")
TRIAL = "idsync-sink-test"
"""Alias and team of what `idsync sinks test` delivers."""
_PLAIN = "@+=, "
"""What stays as it is beside letters, digits and `_.-~`."""
_BRACED = re.compile(r"\{([^{}]*)\}")


def unknown_placeholders(template: str) -> list[str]:
    """Return what stands in braces and is no placeholder; a brace without its partner too."""
    found = [f"{{{name}}}" for name in _BRACED.findall(template) if name not in PLACEHOLDERS]
    return found + re.findall(r"[{}]", _BRACED.sub("", template))


def varies(*templates: str) -> bool:
    """Say whether the place depends on whose key it is."""
    return any(_BRACED.search(template) for template in templates)


def safe(name: str) -> str:
    """Return a name as one path segment or argument that means nothing else: no separator, no `..`, no option.

    Whatever could is percent-encoded, so that two different names never become one.
    """
    encoded = quote(name, safe=_PLAIN, errors="surrogatepass")
    return f"%{ord(encoded[0]):02X}{encoded[1:]}" if encoded[:1] in (".", "-", "~", " ") else encoded


def placed(template: str, alias: str, team: str | None, written: Callable[[str], str] = safe) -> str:
    """Fill in the names, each written as `written` says.

    Raises:
        SinkFailed: the template wants a name that this key has not.
    """
    names = {"alias": alias, "team": team}
    missing = sorted({name for name in _BRACED.findall(template) if not names.get(name)})
    if missing:
        msg = f"{template} wants a {' and a '.join(missing)}, and key {alias!r} has none; give it a sink without it"
        raise SinkFailed(msg)
    return _BRACED.sub(lambda found: written(names[found[1]] or ""), template)
