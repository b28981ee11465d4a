"""What pydantic refuses, in our words; and the tree without it, so that everything else can be checked as well."""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, SecretStr, ValidationError

from idsync.config.tables import Config

Problem = tuple[str, str]
Named = Callable[[str, Mapping[str, Any]], str | None]
"""Says what an entry of a list of tables is called, by the path of the list."""
TRIES = 8
"""So often a tree is cleaned: what is taken out of an entry may have been needed there."""
REMOVED = object()
LIST_OF_SINKS, LISTS_OF_SOURCES = "sinks", ("scim", "sources")
ONE_CREDENTIAL = ("sources.", "sinks.")
"""Where something is told of a whole entry that may follow from one key of it."""
WORDS = {"tuple": "list", "dictionary": "table"}
PYTHON = re.compile(r"valid (tuple|dictionary)(?: or instance of \w+)?")


def told(error: ValidationError, tree: Mapping[str, Any], named: Named) -> list[Problem]:
    """Return every mistake with its path; entries of lists by their name."""
    mistakes = [one for one in error.errors() if one["type"] != "default_factory_not_called"]
    return [(_path(one["loc"], tree, named), _what(one)) for one in mistakes]


def beside(
    tree: Mapping[str, Any], error: ValidationError, check: Callable[[Config], list[Problem]], named: Named
) -> list[Problem]:
    """Return what is wrong with the rest of a tree; nothing that may only follow from what was refused."""
    rest: Any = copy.deepcopy(tree)
    refused: set[str] = set()
    for _ in range(TRIES):
        for one in error.errors():
            refused |= _follows(one, rest, named)
            _remove(rest, one["loc"], missing=one["type"] == "missing")
        rest = _without_removed(rest)
        try:
            config = Config.model_validate(rest)
        except ValidationError as next_one:
            error = next_one
        else:
            return [problem for problem in check(config) if not _may_follow(problem[0], refused)]
    return []


def _what(one: Any) -> str:
    if one["type"] == "extra_forbidden":
        like = _like(one["loc"])
        return f"unknown key; did you mean {like}?" if like else "unknown key"
    message = PYTHON.sub(lambda found: WORDS[found[1]], str(one["msg"]).removeprefix("Value error, "))
    return message[:1].lower() + message[1:]


def _like(loc: Sequence[int | str]) -> str | None:
    """Return the key that an unknown one may have been meant to be; never one that holds a secret itself."""
    table: Any = Config
    for part in loc[:-1]:
        if isinstance(part, str) and table is not None:
            field = table.model_fields.get(part)
            table = _table(field.annotation) if field is not None else None
    if table is None:
        return None
    keys = [name for name, field in table.model_fields.items() if SecretStr not in get_args(field.annotation)]
    return next(iter(difflib.get_close_matches(str(loc[-1]), keys, 1, 0.7)), None)


def _table(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for one in get_args(annotation) if (found := _table(one)) is not None), None)


def _path(loc: Sequence[int | str], tree: Any, named: Named) -> str:
    path, here = "", tree
    for part in loc:
        here = _at(here, part)
        name = named(path, here) if isinstance(part, int) and path and isinstance(here, Mapping) else None
        path = f"{path}.{name or part}" if path else str(part)
    return path or "(top)"


def _at(here: Any, part: int | str) -> Any:
    if isinstance(here, Mapping):
        return here.get(part)
    return here[part] if isinstance(here, list) and isinstance(part, int) and part < len(here) else None


# -- the rest ---------------------------------------------------------------------------------------------------------


def _follows(one: Any, rest: Any, named: Named) -> set[str]:
    """Return the paths at which something may be told only because of this mistake: its own, and what was meant."""
    loc, found = one["loc"], {_path(one["loc"], rest, named)}
    if one["type"] == "extra_forbidden" and (like := _like(loc)):
        found.add(_path((*loc[:-1], like), rest, named))
    whole = one["type"] == "missing" or len(loc) <= 2
    if whole and loc[0] == LIST_OF_SINKS:
        found.add("*.sink")
    if whole and loc[0] in LISTS_OF_SOURCES:
        found.add("routero.sso_idp")
    return found


def _may_follow(path: str, refused: set[str]) -> bool:
    if "*.sink" in refused and path.startswith("teams.") and path.endswith(".sink"):
        return True
    if any(path == one or path.startswith(f"{one}.") for one in refused):
        return True
    return path.startswith(ONE_CREDENTIAL) and any(one.startswith(f"{path}.") for one in refused)


def _remove(rest: Any, loc: Sequence[int | str], *, missing: bool) -> None:
    """Mark what is refused; of an entry that lacks something, the whole."""
    here, held = rest, list(_steps(rest, loc))
    target = held[-2] if missing and len(held) > 1 else held[-1] if held else None
    if target is not None:
        here, part = target
        here[part] = REMOVED


def _steps(rest: Any, loc: Sequence[int | str]) -> Iterator[tuple[Any, Any]]:
    """Yield (container, key) along a path, as deep as it goes; the last may be missing."""
    here = rest
    for part in loc:
        fits = isinstance(here, dict) or (isinstance(here, list) and isinstance(part, int) and part < len(here))
        if not fits:
            return
        yield here, part
        here = _at(here, part)


def _without_removed(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _without_removed(value) for key, value in tree.items() if value is not REMOVED}
    if isinstance(tree, list):
        return [_without_removed(value) for value in tree if value is not REMOVED]
    return tree
