"""How clients bend PATCH (RFC 7644 §3.5.2): rules over its operations, in the order in which they run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from scim2_models import (
    InvalidPathException,
    InvalidSyntaxException,
    InvalidValueException,
    MutabilityException,
    PayloadTooLargeException,
)

from idsync.scim.attributes import CORE, PATCH_OP, Target, Unknown
from idsync.scim.provider import MAX_MEMBERS, MAX_OPERATIONS
from idsync.scim.sql import guard
from idsync.scim.tolerance.query import quote_values
from idsync.scim.tolerance.values import (
    ABSENT,
    BOOLEANS,
    DROPPED,
    Notes,
    Op,
    Rule,
    empty,
    from_text,
    manager,
    members,
    typed,
)

_TEXT = re.compile(r'"(?:[^"\\]|\\.)*+"')
_COMPARED = re.compile(r'([A-Za-z$][\w$-]*+)\s++(?:eq|ne)\s++("(?:[^"\\]|\\.)*+"|[^\s"()\[\]]++)', re.IGNORECASE)
PatchRule = Rule[Callable[[Op, Notes], Iterable[Op]]]


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
    schema = notes.catalogue.schema_of(name, notes.resource)
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
    if op.path is not None and op.path.lower() == "schemas":
        _check_schemas(op, notes)
        return
    if op.path is None or op.path.lower() in DROPPED:
        yield op  # an explicit path to what is read-only: the core refuses it
        return
    guard(op.path, InvalidPathException)
    schema = notes.catalogue.schema_of(op.path, notes.resource)
    if schema is not None:
        yield from _schema_path(op, schema, notes)
        return
    found = notes.catalogue.target_of(quote_values(op.path, notes.catalogue), notes.resource)
    if isinstance(found, Target):
        check_filter(found)
        yield replace(op, target=found)
    elif isinstance(found, Unknown) and (found.foreign or op.spread):
        notes.unknown.append(op.path)
    elif isinstance(found, Unknown):
        raise InvalidPathException(path=op.path, detail=f"There is no attribute {op.path!r} here.")
    else:
        yield op  # not a path at all: the core says where it breaks


def _check_schemas(op: Op, notes: Notes) -> None:
    """Let the list of schemas say what is true anyhow: it follows from the attributes."""
    named = op.value if isinstance(op.value, list) else [op.value]
    if op.op == "remove" or not all(
        isinstance(one, str) and notes.catalogue.schema_of(one, notes.resource) for one in named
    ):
        raise InvalidValueException(detail="schemas follows from the attributes of a resource; change these.")


def check_filter(target: Target) -> None:
    """Refuse a value path that can match nothing by what it compares.

    Raises:
        InvalidPathException: it compares a reference, which is made when it is answered, or a boolean with a word.
    """
    if not target.filter:
        return
    bare = _TEXT.sub('""', target.filter)
    if target.attribute.name in ("members", "groups") and "$ref" in bare.lower():
        raise InvalidPathException(detail=f"$ref of {target.attribute.name} cannot be compared; value can.")
    for match in _COMPARED.finditer(target.filter):
        sub = target.attribute.subs.get(match[1].lower())
        if sub is not None and sub.type == "boolean" and match[2].strip('"') not in BOOLEANS:
            raise InvalidPathException(detail=f"{match[1]} is compared with true or false, not with {match[2]}.")


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
        op = replace(op, value=from_text(op.value))
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
        yield replace(op, value=[] if empty(op.value) else members(op.value))
    elif op.value is ABSENT or op.value is None:
        yield replace(op, value=ABSENT)
    else:
        for member in members(op.value):
            yield replace(
                op,
                value=ABSENT,
                target=replace(op.target, filter=f"[value eq {json.dumps(member['value'], ensure_ascii=False)}]"),
            )


def _values(op: Op, notes: Notes) -> Iterator[Op]:
    """Know the entries a removal lists by what makes them one entry (RFC 7643 §2.4), whatever else it repeats."""
    target = op.target
    if op.op == "remove" and target and target.plain and target.attribute.multi and "value" in target.attribute.subs:
        op = replace(op, value=_entries_by_value(op.value))
    yield op


def _entries_by_value(value: Any) -> Any:
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        return value
    return [
        {name: part for name, part in one.items() if name.lower() in ("value", "type")}
        if isinstance(one, dict) and any(name.lower() == "value" for name in one)
        else one
        for one in value
    ]


def _nothing(op: Op, notes: Notes) -> Iterator[Op]:
    """Replace by nothing is a removal (RFC 7643 §2.5); adding nothing is nothing; required attributes refuse both."""
    if op.target is None or op.op == "remove" or not empty(op.value):
        yield op
    elif op.target.leaf.required or op.target.leaf.type == "boolean":
        raise InvalidValueException(detail=f"{op.target} needs a value.")
    elif op.op == "replace":
        yield replace(op, op="remove", value=ABSENT)


def _shape(op: Op, notes: Notes) -> Iterator[Op]:
    if op.target and op.value is not ABSENT and op.target.attribute.name != "members":
        leaf = op.target.leaf
        if op.op == "remove" and not leaf.multi:
            yield op  # the core says what is wrong with a value here
            return
        if op.target.filter and op.target.sub is None:
            leaf = replace(leaf, multi=False)
        op = replace(op, value=typed(leaf, op.value, strict=False))
    yield op


def _active_stays(op: Op, notes: Notes) -> Iterator[Op]:
    if op.op == "remove" and op.target and op.target.attribute.name == "active":
        raise InvalidValueException(detail="active cannot be removed; replace it with true or false.")
    yield op


PATCH_RULES: tuple[PatchRule, ...] = (
    Rule("op in any letter case", "Entra sends Add, Replace, Remove", _lower_op),
    Rule("object without a path: one operation per key", "Okta OIN; Entra's dotted, filtered and URN keys", _spread),
    Rule("password is accepted and thrown away", "Okta password sync", _drop_password),
    Rule("URN-qualified paths, bare enterprise names, unquoted values", "Entra, zulip#39773", _understand),
    Rule("read-only attributes echoed inside an object", "Okta sends id along with a rename", _read_only),
    Rule("JSON as text", "Entra's AppRoleAssignmentsComplex", _json_text),
    Rule("manager as an id, an array of one, or nothing", "Entra, its tutorial and validator", _manager),
    Rule("members removed by a value list: exactly these", "Entra, authentik, JumpCloud", _members),
    Rule("entries removed by a value list that repeats more of them", "Entra's complex roles", _values),
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
    ops = [_operation(one) for one in found]
    if sum(_named(op.value) for op in ops) > MAX_MEMBERS:
        raise PayloadTooLargeException(detail=f"One request names at most {MAX_MEMBERS} members.")
    return ops


def _named(value: Any, depth: int = 2) -> int:
    """Count the values a part of a request lists."""
    if isinstance(value, dict) and depth:
        return sum(_named(one, depth - 1) for one in value.values())
    return len(value) if isinstance(value, list) else 0


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
    made = [one for op in operations(document) for one in _understood(op, notes)]
    if not made and notes.unknown:
        raise InvalidPathException(detail=f"None of these attributes is known here: {', '.join(notes.unknown)}.")
    return count_members([op.document() for op in made])


def _understood(op: Op, notes: Notes) -> list[Op]:
    """Put one operation through the rules.

    What other products' schemas say may be dropped beside a good operation; one of which nothing else is understood
    is refused, as the others of its request do not make it true.
    """
    before = len(notes.unknown)
    ops = [op]
    for rule in PATCH_RULES:
        ops = [one for each in ops for one in rule.apply(each, notes)]
    names = [name for name in notes.unknown[before:] if not name.lower().startswith("urn:")]
    if not ops and names:
        raise InvalidPathException(detail=f"None of these attributes is known here: {', '.join(names)}.")
    if not ops and op.path is None and isinstance(op.value, dict) and {*map(str.lower, op.value)} == {"groups"}:
        raise MutabilityException(attribute="groups", detail="groups follows from the members of groups; change these.")
    return ops


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
    return count_members([_without_display(one) for one in kept] if notes.resource == "Group" else kept)


def _without_display(op: dict[str, Any]) -> dict[str, Any]:
    """Leave out the names of members, which follow from who they are, as in a whole group (RFC 7644 §3.5.1)."""
    found = {}
    for name, value in op.items():
        if name.lower() == "value" and isinstance(value, list):
            value = [_nameless(one) for one in value]
        elif name.lower() == "value" and isinstance(value, dict):
            value = {
                key: [*map(_nameless, one)] if key.lower() == "members" and isinstance(one, list) else one
                for key, one in value.items()
            }
        found[name] = value
    return found


def _nameless(entry: Any) -> Any:
    if not isinstance(entry, dict):
        return entry
    return {key: one for key, one in entry.items() if key.lower() != "display" or not isinstance(one, str)}


def _check_strictly(op: Op, notes: Notes) -> None:
    target = notes.catalogue.target_of(op.path, notes.resource) if op.path else None
    if not isinstance(target, Target):
        return
    check_filter(target)
    aimed = replace(op, target=target)
    list(_active_stays(aimed, notes))
    if target.plain and target.leaf.name == "members" and op.op.lower() != "remove":
        members(op.value)
    if op.value is not ABSENT:
        if target.leaf.type == "boolean":
            list(_nothing(aimed, notes))
        typed(target.leaf, op.value, strict=True)


def message(ops: list[dict[str, Any]]) -> dict[str, Any]:
    """Wrap operations into a PATCH message (RFC 7644 §3.5.2)."""
    return {"schemas": [PATCH_OP], "Operations": ops}


def count_members(ops: list[dict[str, Any]]) -> list[dict[str, Any]]:
    named = sum(len(op["value"]) for op in ops if isinstance(op.get("value"), list))
    if named > MAX_MEMBERS:
        raise PayloadTooLargeException(detail=f"One request names at most {MAX_MEMBERS} members.")
    return ops
