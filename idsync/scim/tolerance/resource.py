"""How clients bend whole resources (POST and PUT): rules over the document, in the order in which they run.

Between the first rule and the last a document is kept by schema: `{urn: {name: value}}`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from scim2_models import InvalidSyntaxException, InvalidValueException, PayloadTooLargeException

from idsync.scim.attributes import CORE, ENTERPRISE, Attribute
from idsync.scim.provider import MAX_MEMBERS
from idsync.scim.tolerance.values import UNREAD, Notes, Rule, empty, manager, members, typed

Document = dict[str, Any]
ResourceRule = Rule[Callable[[Document, Notes], Document]]


def _sections(document: Document, notes: Notes) -> Document:
    core = CORE[notes.resource]
    found: Document = {core: {}}
    for name, value in document.items():
        schema = notes.catalogue.schema_of(name, notes.resource)
        if schema is not None and isinstance(value, dict):
            found.setdefault(schema, {}).update(value)
        elif schema is not None and not empty(value):
            raise InvalidValueException(detail=f"{name} holds an object of attributes.")
        elif notes.catalogue.bare(name, notes.resource):
            found.setdefault(ENTERPRISE, {})[name] = value
        elif name.lower() != "schemas":
            found[core][name] = value
    return found


def _known(document: Document, notes: Notes) -> Document:
    found: Document = {urn: {} for urn in document}
    for urn, given in document.items():
        table = notes.catalogue.table(urn)
        for name, value in given.items():
            attribute = table.get(name.lower())
            if attribute is None:
                notes.unknown.append(name)
            else:
                found[urn][attribute.name] = value
    return found


def _each(document: Document, notes: Notes, change: Callable[[Attribute, Any], Any]) -> Document:
    """Put every value that is there through `change`; what becomes None is left out."""
    found: Document = {}
    for urn, given in document.items():
        table = notes.catalogue.table(urn)
        made = {name: change(table[name.lower()], value) for name, value in given.items() if not empty(value)}
        found[urn] = {name: value for name, value in made.items() if value is not None}
    return found


def _present(document: Document, notes: Notes) -> Document:
    return _each(document, notes, lambda attribute, value: value)


def _manager(document: Document, notes: Notes) -> Document:
    return _each(document, notes, lambda attribute, value: manager(value) if attribute.name == "manager" else value)


def _members(document: Document, notes: Notes) -> Document:
    return _each(document, notes, lambda attribute, value: members(value) if attribute.name == "members" else value)


def _shape(document: Document, notes: Notes) -> Document:
    def shaped(attribute: Attribute, value: Any) -> Any:
        made = typed(attribute, value, strict=False)
        return None if made == {} else made

    return _each(document, notes, shaped)


def _joined(document: Document, notes: Notes) -> Document:
    core = CORE[notes.resource]
    extensions = {urn: given for urn, given in document.items() if urn != core and given}
    return {"schemas": [core, *extensions], **document[core], **extensions}


RESOURCE_RULES: tuple[ResourceRule, ...] = (
    Rule("attributes below a core or pre-RFC URN, bare enterprise names", "OneLogin; Microsoft's tutorial", _sections),
    Rule("names in any letter case; what no schema has is left out and logged", "Okta, Entra, Rippling", _known),
    Rule("null and empty text are absent", "JumpCloud's emails: null, Entra's validator", _present),
    Rule("manager as an id, an array of one, or nothing", "Entra, its tutorial and validator", _manager),
    Rule("members without a type, or as bare ids", "Okta; clients that list ids", _members),
    Rule("booleans and JSON as text, one object where a list belongs", "Entra, OneLogin", _shape),
    Rule("schemas written anew", "OneLogin's old names, Entra's group URN", _joined),
)


def resource(document: Any, notes: Notes, *, strict: bool) -> Document:
    """Return a user or group as RFC 7643 spells it; read-only attributes and the password are gone.

    Raises:
        SCIMException: it is no object, or a value in it is not what its attribute holds.
    """
    if not isinstance(document, dict):
        raise InvalidSyntaxException(detail="A resource is a JSON object.")
    given = {name: value for name, value in document.items() if name.lower() not in UNREAD}
    _limit_members(given)
    if strict:
        return _strictly(given, notes)
    for rule in RESOURCE_RULES:
        given = rule.apply(given, notes)
    return given


def _strictly(given: Document, notes: Notes) -> Document:
    """Check what the core would read laxly: booleans are JSON booleans."""
    for name, value in given.items():
        urn = notes.catalogue.schema_of(name, notes.resource)
        below = value.items() if urn is not None and isinstance(value, dict) else [(name, value)]
        table = notes.catalogue.table(urn or CORE[notes.resource])
        for one, inner in below:
            attribute = table.get(one.lower())
            if attribute is not None:
                typed(attribute, inner, strict=True)
    return given


def _limit_members(given: Mapping[str, Any]) -> None:
    """Bound the values of every list, below a schema's URN as well."""
    sections = [given, *(one for one in given.values() if isinstance(one, dict))]
    lists = [value for one in sections for name, value in one.items() if name.lower() != "schemas"]
    if sum(len(value) for value in lists if isinstance(value, list)) > MAX_MEMBERS:
        raise PayloadTooLargeException(detail=f"One request names at most {MAX_MEMBERS} members or other values.")
