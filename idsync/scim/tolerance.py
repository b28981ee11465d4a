"""How real identity providers bend SCIM, as a list of named rules over the decoded request.

Every rule says what it forgives and who sends it. The result is plain RFC 7644 for the core and the short cuts in
`hot`. What no rule understands is a 400 with a sentence: a 200 that changed nothing is how leavers keep their keys.
With `strict` none of the rules run; only the checks that no dialect may bend (booleans, read-only, limits) remain.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from scim2_models import (
    InvalidFilterException,
    InvalidPathException,
    InvalidSyntaxException,
    InvalidValueException,
    MutabilityException,
    PayloadTooLargeException,
    SCIMException,
)

from idsync.scim import parse
from idsync.scim.attributes import (
    CORE,
    ENTERPRISE,
    PATCH_OP,
    Attribute,
    Target,
    Unknown,
    core,
    enterprise,
    schema_of,
    target_of,
)
from idsync.scim.provider import MAX_MEMBERS, MAX_OPERATIONS
from idsync.scim.sql import guard

BOOLEANS = {"True": True, "true": True, "False": False, "false": False}
"""The only strings that are booleans; "no", "yes" and 1 are a 400 (pydantic would read "no" as false)."""
DROPPED = frozenset({"id", "meta", "groups", "schemas"})
"""Read-only names that clients echo inside an object; RFC 7644 §3.5.1 has them ignored."""
UNREAD = frozenset({"id", "meta", "groups", "password"})
"""What a client may send in a whole resource and nobody reads: read-only names, and a password."""
_COMPARISON = re.compile(
    r'"(?:[^"\\]|\\.)*"|(?<![\w$.:-])(?P<op>eq|ne|co|sw|ew|gt|ge|lt|le)\s+(?P<value>[^\s"()\[\]]+)', re.IGNORECASE
)
_TYPED = re.compile(r"(?:[\w$.:-]*[.:])?(active|primary|created|lastModified)\s*$", re.IGNORECASE)
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
    unknown: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Rule:
    """One thing that is forgiven: its name, who needs it, and what it makes of an operation."""

    name: str
    who: str
    apply: Callable[[Op, Notes], Iterable[Op]]


# -- values ------------------------------------------------------------------------------------------------------


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


def _empty(value: Any) -> bool:
    return value is None or value == ""


def _from_text(value: Any) -> Any:
    """Read a JSON object or array that came as a string (Entra's AppRoleAssignmentsComplex)."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return parse.loads(value)
        except InvalidSyntaxException:
            return value
    return value


def _entry(attribute: Attribute, value: Any, *, strict: bool) -> Any:
    """Bring one complex value into shape: nulls and "" out, booleans real, JSON texts read."""
    if strict or not isinstance(value, dict):
        return _checked_entry(attribute, value)
    inner = _from_text(value.get("value"))
    if attribute.multi and isinstance(inner, dict):
        value = {**value, **inner}
    kept = {name: one for name, one in value.items() if not _empty(one)}
    return {name: _typed(attribute.subs.get(name.lower()), one, strict=False) for name, one in kept.items()}


def _checked_entry(attribute: Attribute, value: Any) -> Any:
    if isinstance(value, dict):
        for name, one in value.items():
            sub = attribute.subs.get(name.lower())
            if sub is not None and sub.type == "boolean" and one is not None:
                boolean(sub.name, one, strict=True)
    return value


def _typed(attribute: Attribute | None, value: Any, *, strict: bool) -> Any:
    """Bring the value of an attribute into shape as its schema wants it."""
    if attribute is None or value is None:
        return value
    if attribute.type == "boolean":
        return boolean(attribute.name, value, strict=strict)
    if attribute.type != "complex":
        return value
    if strict:
        return [_checked_entry(attribute, one) for one in value] if isinstance(value, list) else value
    value = _from_text(value)
    if attribute.multi and isinstance(value, dict):
        value = [value]
    if isinstance(value, list):
        entries = [_entry(attribute, _from_text(one), strict=False) for one in value if not _empty(one)]
        return [one for one in entries if one != {}]
    return _entry(attribute, value, strict=False)


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
        kept = {"value": lowered.get("value"), "$ref": lowered.get("$ref")}
        kept = {name: one for name, one in kept.items() if not _empty(one)}
        return kept if "value" in kept else None
    return value


def members(value: Any) -> list[dict[str, Any]]:
    """Read a list of members, each an id or an object with `value`; type is User unless it says otherwise.

    Raises:
        InvalidValueException: an entry names nobody.
    """
    entries = value if isinstance(value, list) else [value]
    return [_member(entry) for entry in entries]


def _member(entry: Any) -> dict[str, Any]:
    if isinstance(entry, str):
        entry = {"value": entry}
    lowered = {name.lower(): one for name, one in entry.items()} if isinstance(entry, dict) else {}
    value = lowered.get("value")
    if not isinstance(value, str) or not value:
        raise InvalidValueException(detail="Every member needs a value, the id of a user or a group.")
    kind = lowered.get("type")
    return {"value": value, "type": kind if isinstance(kind, str) and kind else "User"}


# -- the rules for PATCH, in the order they run ------------------------------------------------------------------


def _lower_op(op: Op, notes: Notes) -> Iterator[Op]:
    yield replace(op, op=op.op.lower())


def _spread(op: Op, notes: Notes) -> Iterator[Op]:
    if op.path:
        yield op
        return
    if op.op == "remove":
        yield replace(op, path=None)
        return
    if not isinstance(op.value, dict):
        raise InvalidValueException(detail=f"{op.op} without a path needs an object of attributes as its value.")
    for name, value in op.value.items():
        yield from _spread_one(op, name, value, notes)


def _spread_one(op: Op, name: str, value: Any, notes: Notes) -> Iterator[Op]:
    schema = schema_of(name, notes.resource)
    if schema is not None and isinstance(value, dict):
        prefix = "" if schema == CORE[notes.resource] else f"{schema}:"
        for inner, one in value.items():
            yield Op(op.op, prefix + inner, one, spread=True)
        return
    if name.lower() == "id" and notes.resource_id is not None and value not in (notes.resource_id, None):
        raise MutabilityException(attribute="id", detail="id cannot be changed.")
    if name.lower() not in DROPPED:
        yield Op(op.op, name, value, spread=True)


def _drop_password(op: Op, notes: Notes) -> Iterator[Op]:
    if op.path is None or op.path.lower().rpartition(":")[2] != "password":
        yield op


def _understand(op: Op, notes: Notes) -> Iterator[Op]:
    if op.path is None or op.path.lower() in DROPPED:
        yield op  # an explicit path to what is read-only: the core refuses it
        return
    guard(op.path, InvalidPathException)
    schema = schema_of(op.path, notes.resource)
    if schema is not None:
        yield from _schema_path(op, schema, notes)
        return
    found = target_of(quote_values(op.path), notes.resource)
    if isinstance(found, Target):
        yield replace(op, target=found)
    elif isinstance(found, Unknown) and (found.foreign or op.spread):
        notes.unknown.append(op.path)
    elif isinstance(found, Unknown):
        raise InvalidPathException(path=op.path, detail=f"There is no attribute {op.path!r} here.")
    else:
        yield op  # not a path at all: the core says where it breaks


def _schema_path(op: Op, schema: str, notes: Notes) -> Iterator[Op]:
    """Take the object on a schema's own path apart (the core can do the rest: it removes whole extensions)."""
    if not isinstance(op.value, dict):
        yield replace(op, path=schema)
        return
    for name, value in op.value.items():
        yield from _understand(Op(op.op, f"{schema}:{name}", value, spread=True), notes)


def _read_only(op: Op, notes: Notes) -> Iterator[Op]:
    if not (op.spread and op.target and op.target.attribute.read_only):
        yield op


def _json_text(op: Op, notes: Notes) -> Iterator[Op]:
    if op.target and op.target.leaf.type == "complex":
        op = replace(op, value=_from_text(op.value))
    yield op


def _manager(op: Op, notes: Notes) -> Iterator[Op]:
    if op.target and op.target.leaf.name == "manager" and op.op != "remove":
        op = replace(op, value=manager(op.value))
    elif op.target and op.target.leaf.name == "manager":
        op = replace(op, value=ABSENT)
    yield op


def _members(op: Op, notes: Notes) -> Iterator[Op]:
    if not (op.target and op.target.leaf.name == "members" and op.target.plain):
        yield op
    elif op.op != "remove":
        yield replace(op, value=[] if _empty(op.value) else members(op.value))
    elif op.value is ABSENT or op.value is None:
        yield replace(op, value=ABSENT)
    else:
        for member in members(op.value):
            yield replace(
                op,
                value=ABSENT,
                target=replace(op.target, filter=f"[value eq {json.dumps(member['value'], ensure_ascii=False)}]"),
            )


def _nothing(op: Op, notes: Notes) -> Iterator[Op]:
    """Replace by nothing is a removal (RFC 7643 §2.5); adding nothing is nothing; required attributes refuse both."""
    if op.target is None or op.op == "remove" or not _empty(op.value):
        yield op
    elif op.target.leaf.required or op.target.leaf.type == "boolean":
        raise InvalidValueException(detail=f"{op.target} needs a value.")
    elif op.op == "replace":
        yield replace(op, op="remove", value=ABSENT)


def _shape(op: Op, notes: Notes) -> Iterator[Op]:
    if op.target and op.value is not ABSENT and op.target.attribute.name != "members":
        leaf = op.target.leaf
        if op.target.filter and op.target.sub is None:
            leaf = replace(leaf, multi=False)
        op = replace(op, value=_typed(leaf, op.value, strict=False))
    yield op


def _active_stays(op: Op, notes: Notes) -> Iterator[Op]:
    if op.op == "remove" and op.target and op.target.attribute.name == "active":
        raise InvalidValueException(detail="active cannot be removed; replace it with true or false.")
    yield op


PATCH_RULES = (
    Rule("op in any letter case", "Entra sends Add, Replace, Remove", _lower_op),
    Rule("object without a path: one operation per key", "Okta OIN; Entra's dotted, filtered and URN keys", _spread),
    Rule("password is accepted and thrown away", "Okta password sync", _drop_password),
    Rule("URN-qualified paths, bare enterprise names, unquoted values", "Entra, zulip#39773", _understand),
    Rule("read-only attributes echoed inside an object", "Okta sends id along with a rename", _read_only),
    Rule("JSON as text", "Entra's AppRoleAssignmentsComplex", _json_text),
    Rule("manager as an id, an array of one, or nothing", "Entra, its tutorial and validator", _manager),
    Rule("members removed by a value list: exactly these", "Entra, authentik, JumpCloud", _members),
    Rule("null and empty text", "Entra's validator, Okta", _nothing),
    Rule("booleans as text, one object where a list belongs", "Entra, OneLogin", _shape),
    Rule("active is never removed", "ours: it would be a 2xx that does nothing", _active_stays),
)


def operations(document: Any) -> list[Op]:
    """Take the operations out of a PATCH message, dropping members an operation does not have (RFC 7644 §3.5.2).

    Raises:
        InvalidSyntaxException: the body is no PATCH message.
        InvalidValueException: an operation is none.
        PayloadTooLargeException: there are too many of them.
    """
    if not isinstance(document, dict):
        raise InvalidSyntaxException(detail="A PATCH body is a JSON object with Operations.")
    found = next((value for name, value in document.items() if name.lower() == "operations"), None)
    if not isinstance(found, list) or not found:
        raise InvalidValueException(detail="Operations must be a list of one or more operations.")
    if len(found) > MAX_OPERATIONS:
        raise PayloadTooLargeException(detail=f"One request holds at most {MAX_OPERATIONS} operations.")
    return [_operation(one) for one in found]


def _operation(one: Any) -> Op:
    lowered = {name.lower(): value for name, value in one.items()} if isinstance(one, dict) else {}
    op, path = lowered.get("op"), lowered.get("path")
    if not isinstance(op, str) or op.lower() not in ("add", "remove", "replace"):
        raise InvalidValueException(detail="op must be add, remove or replace.")
    if path is not None and not isinstance(path, str):
        raise InvalidPathException(detail="path must be a string.")
    return Op(op, path, lowered.get("value", ABSENT))


def patch(document: Any, notes: Notes) -> list[dict[str, Any]]:
    """Return the operations of a PATCH as RFC 7644 spells them; none when all of it is true already.

    Raises:
        SCIMException: something is not understood; nothing may be applied then.
    """
    ops = operations(document)
    for rule in PATCH_RULES:
        ops = [one for op in ops for one in rule.apply(op, notes)]
    if not ops and notes.unknown:
        raise InvalidPathException(detail=f"None of these attributes is known here: {', '.join(notes.unknown)}.")
    return count_members([op.document() for op in ops])


def strict_patch(document: Any, notes: Notes) -> list[dict[str, Any]]:
    """Check what even RFC 7644 leaves to the reader: booleans are JSON booleans, active stays, limits hold."""
    ops = operations(document)
    raw: list[dict[str, Any]] = next(value for name, value in document.items() if name.lower() == "operations")
    for op in ops:
        guard(op.path or "", InvalidPathException)
        flat = [op] if op.path or not isinstance(op.value, dict) else [*_spread(op, notes)]
        for one in flat:
            _check_strictly(one, notes)
    kept = [one for op, one in zip(ops, raw, strict=True) if [*_drop_password(op, notes)]]
    return count_members(kept)


def _check_strictly(op: Op, notes: Notes) -> None:
    target = target_of(op.path, notes.resource) if op.path else None
    if not isinstance(target, Target):
        return
    aimed = replace(op, target=target)
    list(_active_stays(aimed, notes))
    if op.value is not ABSENT:
        if target.leaf.type == "boolean":
            list(_nothing(aimed, notes))
        _typed(target.leaf, op.value, strict=True)


def message(ops: list[dict[str, Any]]) -> dict[str, Any]:
    """Wrap operations into a PATCH message (RFC 7644 §3.5.2)."""
    return {"schemas": [PATCH_OP], "Operations": ops}


def count_members(ops: list[dict[str, Any]]) -> list[dict[str, Any]]:
    named = sum(len(op["value"]) for op in ops if isinstance(op.get("value"), list))
    if named > MAX_MEMBERS:
        raise PayloadTooLargeException(detail=f"One request names at most {MAX_MEMBERS} members.")
    return ops


# -- whole resources: POST and PUT -------------------------------------------------------------------------------


def resource(document: Any, notes: Notes, *, strict: bool) -> dict[str, Any]:
    """Return a user or group as RFC 7643 spells it; read-only attributes and the password are gone.

    Raises:
        SCIMException: it is no object, or a value in it is not what its attribute holds.
    """
    if not isinstance(document, dict):
        raise InvalidSyntaxException(detail="A resource is a JSON object.")
    given = {name: value for name, value in document.items() if name.lower() not in UNREAD}
    if strict:
        return _strict_resource(given, notes)
    return _tolerant_resource(given, notes)


def _strict_resource(given: Mapping[str, Any], notes: Notes) -> dict[str, Any]:
    for name, value in given.items():
        if (attribute := core(notes.resource).get(name.lower())) is not None:
            _typed(attribute, value, strict=True)
    _limit_members(given)
    return dict(given)


def _limit_members(given: Mapping[str, Any]) -> None:
    named = next((value for name, value in given.items() if name.lower() == "members"), None)
    if isinstance(named, list) and len(named) > MAX_MEMBERS:
        raise PayloadTooLargeException(detail=f"One request names at most {MAX_MEMBERS} members.")


def _tolerant_resource(given: Mapping[str, Any], notes: Notes) -> dict[str, Any]:
    _limit_members(given)
    kept: dict[str, Any] = {"schemas": [CORE[notes.resource]]}
    extension: dict[str, Any] = {}
    for name, value in given.items():
        schema = schema_of(name, notes.resource)
        if schema == ENTERPRISE and isinstance(value, dict):
            extension |= _attributes(value, enterprise(), notes)
        elif notes.resource == "User" and name.lower() in enterprise():
            extension |= _attributes({name: value}, enterprise(), notes)
        elif schema == CORE[notes.resource] and isinstance(value, dict):
            kept |= _attributes(value, core(notes.resource), notes)
        elif name.lower() != "schemas":
            kept |= _attributes({name: value}, core(notes.resource), notes)
    if extension:
        kept[ENTERPRISE] = extension
        kept["schemas"].append(ENTERPRISE)
    return kept


def _attributes(given: Mapping[str, Any], known: Mapping[str, Attribute], notes: Notes) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in given.items():
        attribute = known.get(name.lower())
        if attribute is None:
            notes.unknown.append(name)
        elif not _empty(value):
            shaped = _whole(attribute, value)
            if shaped is not None and shaped != {}:
                found[attribute.name] = shaped
    return found


def _whole(attribute: Attribute, value: Any) -> Any:
    if attribute.name == "manager":
        return manager(value)
    if attribute.name == "members":
        return members(value)
    return _typed(attribute, value, strict=False)


# -- bulk ----------------------------------------------------------------------------------------------------------

_BULK_PATH = re.compile(r"(users|groups)(?:/([^/]+))?", re.IGNORECASE)


def bulk(document: Any, *, strict: bool) -> tuple[dict[str, Any], dict[int, SCIMException]]:
    """Put the data of every operation of a bulk request (RFC 7644 §3.7) through the same rules.

    Returns the request, and by position what is refused; the others of the request go on (§3.7.3).
    """
    if not isinstance(document, dict):
        raise InvalidSyntaxException(detail="A bulk request is a JSON object.")
    shaped, failures = dict(document), dict[int, SCIMException]()
    for name, value in document.items():
        if name.lower() == "operations" and isinstance(value, list):
            if len(value) > MAX_OPERATIONS:
                raise PayloadTooLargeException(detail=f"One request holds at most {MAX_OPERATIONS} operations.")
            shaped[name] = [_try_bulk(number, one, failures, strict=strict) for number, one in enumerate(value)]
    return shaped, failures


def _try_bulk(number: int, one: Any, failures: dict[int, SCIMException], *, strict: bool) -> Any:
    try:
        return _bulk_operation(one, strict=strict)
    except SCIMException as error:
        failures[number] = error
        return {name: value for name, value in one.items() if name.lower() != "data"}


def _bulk_operation(one: Any, *, strict: bool) -> Any:
    if not isinstance(one, dict):
        return one
    lowered = {name.lower(): value for name, value in one.items()}
    path, data, method = lowered.get("path"), lowered.get("data"), str(lowered.get("method")).upper()
    match = _BULK_PATH.fullmatch(path.strip("/")) if isinstance(path, str) else None
    if match is None or data is None:
        return one
    rest = {name: value for name, value in one.items() if name.lower() != "data"}
    if method == "DELETE":
        return rest
    notes = Notes("User" if match[1].lower() == "users" else "Group", match[2])
    if method == "PATCH":
        return {**rest, "data": message((strict_patch if strict else patch)(data, notes))}
    return {**rest, "data": resource(data, notes, strict=strict)}


# -- filters ------------------------------------------------------------------------------------------------------


def quote_values(text: str) -> str:
    """Put quotes around bare words a filter compares with: `userName eq ak-user` (authentik, Microsoft's tutorial).

    true, false, null and numbers stay as they are next to attributes that hold such values.
    """
    if '"' in text and not _has_bare(text):
        return text
    return _COMPARISON.sub(lambda match: _quoted(text, match), text)


def _has_bare(text: str) -> bool:
    return any(match["op"] for match in _COMPARISON.finditer(text))


def _quoted(text: str, match: re.Match[str]) -> str:
    value = match["value"]
    if value is None:
        return match[0]
    low = value.lower()
    if low == "null" or (low in ("true", "false") and _TYPED.search(text[: match.start()])):
        return match[0]
    return match[0].removesuffix(value) + json.dumps(value, ensure_ascii=False)


def filter_text(text: str, *, strict: bool) -> str:
    """Return a filter as RFC 7644 §3.4.2.2 spells it, with its limits checked before any grammar runs.

    Raises:
        InvalidFilterException: it is longer, deeper or has more terms than is served.
    """
    guard(text, InvalidFilterException)
    if strict:
        return text
    return quote_values(text.rstrip("?& "))
