"""What is asked of a hook, checked before anything is done: what does not fit is told in one sentence with what would."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Collection
from typing import Any

JSON = dict[str, Any]


def body_of(raw: bytes) -> Any:
    """Return the body of a request to a hook, None when it is empty.

    Raises:
        ValueError: it is no JSON.
    """
    try:
        return json.loads(raw) if raw else None
    except ValueError as problem:
        msg = f"the body is no JSON ({problem})"
        raise ValueError(msg) from None


def rows(what: str, given: Any) -> list[Any]:
    """Return a list of objects.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(given, list):
        msg = f"{what} is a list of objects: [{{...}}, {{...}}]"
        raise ValueError(msg)
    return given


def fitting(
    what: str, given: Any, takes: Collection[str], needs: Collection[str] = (), *, anything: bool = False
) -> JSON:
    """Return a copy of what was given, when it is an object with no other names than these, and all it needs.

    `anything`: other names are welcome.

    Raises:
        ValueError: it is not.
    """
    names = ", ".join([*takes, *(["any other attribute"] if anything else [])]) or "nothing"
    if not isinstance(given, dict):
        msg = f"{what} is an object; it takes {names}"
        raise ValueError(msg)
    unknown = [] if anything else sorted(set(given) - set(takes))
    if unknown:
        msg = f"{what} does not take {', '.join(map(repr, unknown))}; it takes {names}"
        raise ValueError(msg)
    if missing := [name for name in needs if name not in given]:
        msg = f"{what} needs {', '.join(missing)}; it takes {names}"
        raise ValueError(msg)
    return dict(given)


def done(what: str, act: Callable[..., Any], given: Any) -> Any:
    """Call a function with what was given by name.

    Raises:
        ValueError: the names are not those of its parameters.
    """
    parameters = inspect.signature(act).parameters.values()
    named = [one.name for one in parameters if one.kind is not one.VAR_KEYWORD]
    needs = [one.name for one in parameters if one.kind is not one.VAR_KEYWORD and one.default is one.empty]
    return act(**fitting(what, given, named, needs, anything=len(named) < len(parameters)))
