"""What the rules share: an operation on its way, notes about the request, and values brought into shape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from scim2_models import InvalidSyntaxException, InvalidValueException

from idsync.scim import parse
from idsync.scim.attributes import Attribute, Catalogue, Target, standard

Apply = TypeVar("Apply", bound=Callable[..., Any])

BOOLEANS = {"True": True, "true": True, "False": False, "false": False}
"""The only strings that are booleans; "no", "yes" and 1 are a 400 (pydantic would read "no" as false)."""
DROPPED = frozenset({"id", "meta", "groups", "schemas"})
"""Read-only names that clients echo inside an object; RFC 7644 §3.5.1 has them ignored."""
UNREAD = frozenset({"id", "meta", "groups", "password"})
"""What a client may send in a whole resource and nobody reads: read-only names, and a password."""
ABSENT: Any = object()


@dataclass(frozen=True)
class Op:
    """One operation on its way: `target` is known once the path is understood, `spread` when an object was split."""

    op: str
    path: str | None
    value: Any = ABSENT
    spread: bool = False
    target: Target | None = None

    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = {"op": self.op}
        if self.target is not None or self.path is not None:
            found["path"] = str(self.target) if self.target else self.path
        if self.value is not ABSENT:
            found["value"] = self.value
        return found


@dataclass
class Notes:
    """The resource a request is about, and what was left out of it: names of attributes, never their values."""

    resource: str
    resource_id: str | None = None
    catalogue: Catalogue = field(default_factory=standard)
    unknown: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Rule(Generic[Apply]):
    """One thing that is forgiven: its name, who needs it, and the function that makes RFC 7644 of it."""

    name: str
    who: str
    apply: Apply


def boolean(name: str, value: Any, *, strict: bool = False) -> bool:
    """Return a boolean.

    Raises:
        InvalidValueException: the value is neither a boolean nor one of the four strings.
    """
    if isinstance(value, bool):
        return value
    if not strict and isinstance(value, str) and value in BOOLEANS:
        return BOOLEANS[value]
    raise InvalidValueException(detail=f"{name} must be true or false.")


def empty(value: Any) -> bool:
    return value is None or value == ""


def from_text(value: Any) -> Any:
    """Read a JSON object or array that came as a string (Entra's AppRoleAssignmentsComplex)."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return parse.loads(value)
        except InvalidSyntaxException:
            return value
    return value


def _entry(attribute: Attribute, value: Any, name: str) -> Any:
    """Bring one complex value into shape: nulls and "" out, booleans real, JSON texts read."""
    if not isinstance(value, dict):
        raise InvalidValueException(detail=f"{name} holds {_described(attribute)}.")
    inner = from_text(value.get("value"))
    if attribute.multi and isinstance(inner, dict):
        value = {**value, **inner}
    kept = {key: one for key, one in value.items() if not empty(one)}
    if kept and attribute.subs and not any(key.lower() in attribute.subs for key in kept):
        raise InvalidValueException(detail=f"{name} holds {', '.join(attribute.subs)}; none of these is given.")
    return {key: _shaped(attribute.subs.get(key.lower()), one, f"{name}.{key}") for key, one in kept.items()}


def _described(attribute: Attribute) -> str:
    """Say what an attribute holds, for whoever reads a refusal."""
    kinds = {"complex": "an object", "integer": "a number", "decimal": "a number", "boolean": "true or false"}
    kind = kinds.get(attribute.type, "a text")
    return f"a list, each entry {kind}" if attribute.multi else kind


def checked_entry(attribute: Attribute, value: Any) -> Any:
    if isinstance(value, dict):
        for name, one in value.items():
            sub = attribute.subs.get(name.lower())
            if sub is not None and sub.type == "boolean" and one is not None:
                boolean(sub.name, one, strict=True)
    return value


def typed(attribute: Attribute, value: Any, *, strict: bool) -> Any:
    """Bring the value of an attribute into shape as its schema wants it.

    Raises:
        InvalidValueException: it is nothing the attribute could hold.
    """
    if not strict:
        return _shaped(attribute, value, attribute.name)
    if value is not None and attribute.type == "boolean":
        return boolean(attribute.name, value, strict=True)
    if attribute.type == "complex" and isinstance(value, list):
        return [checked_entry(attribute, one) for one in value]
    return value


def _shaped(attribute: Attribute | None, value: Any, name: str) -> Any:
    if attribute is None or value is None:
        return value
    if attribute.type == "boolean":
        return boolean(name, value)
    if attribute.type == "complex":
        return _complex(attribute, from_text(value), name)
    entries = value if attribute.multi and isinstance(value, list) else [value]
    if not all(isinstance(one, str) or (isinstance(one, int | float) and _is_number(attribute)) for one in entries):
        raise InvalidValueException(detail=f"{name} holds {_described(attribute)}.")
    return value


def _is_number(attribute: Attribute) -> bool:
    return attribute.type in ("integer", "decimal")


def _complex(attribute: Attribute, value: Any, name: str) -> Any:
    if attribute.multi and isinstance(value, dict):
        value = [value]
    if isinstance(value, list) and attribute.multi:
        entries = [_entry(attribute, from_text(one), name) for one in value if not empty(one)]
        return [one for one in entries if one != {}]
    return _entry(attribute, value, name)


def manager(value: Any) -> Any:
    """Read a manager as an id, an object, or an array of one of these; None means there is none."""
    if isinstance(value, list):
        if len(value) > 1:
            raise InvalidValueException(detail="manager holds one value, not several.")
        value = value[0] if value else None
    if isinstance(value, str):
        value = {"value": value}
    if isinstance(value, dict):
        lowered = {name.lower(): one for name, one in value.items()}
        if lowered and not lowered.keys() & {"value", "managerid"}:
            raise InvalidValueException(detail="manager needs a value, the id of a user.")
        kept = {"value": lowered.get("value") or lowered.get("managerid"), "$ref": lowered.get("$ref")}
        kept = {name: one for name, one in kept.items() if not empty(one)}
        return kept if "value" in kept else None
    if value is not None:
        raise InvalidValueException(detail="manager holds the id of a user, alone or as the value of an object.")
    return None


def members(value: Any) -> list[dict[str, Any]]:
    """Read a list of members, each an id or an object with `value`; type is User unless it says otherwise.

    Raises:
        InvalidValueException: an entry names nobody.
    """
    value = from_text(value)
    entries = [from_text(one) for one in value] if isinstance(value, list) else [value]
    return [_member(entry) for entry in entries]


def _member(entry: Any) -> dict[str, Any]:
    if isinstance(entry, str):
        entry = {"value": entry}
    lowered = {name.lower(): one for name, one in entry.items()} if isinstance(entry, dict) else {}
    value = lowered.get("value")
    if not isinstance(value, str) or not value:
        raise InvalidValueException(detail="Every member needs a value, the id of a user or a group.")
    return {"value": value}
