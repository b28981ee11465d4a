"""Schema extensions of the operator's own, from SCIM schema documents (RFC 7643 §7); pure.

Only what this service can keep is accepted: an attribute that promises more (uniqueness, immutability, being hidden)
would make discovery say what nobody enforces.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from scim2_models import Attribute, Mutability, Returned, Schema, Uniqueness

from idsync.scim import parse

SCHEMA = "urn:ietf:params:scim:schemas:core:2.0:Schema"
_URN = re.compile(r"urn:[A-Za-z0-9][A-Za-z0-9-]{0,31}(?::[A-Za-z0-9._-]+)+")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_TAKEN = "urn:ietf:params:scim:"
_NAMES = frozenset({
    *("id", "externalid", "meta", "schemas", "active", "username", "displayname", "emails", "password", "groups"),
    *("members", "manager", "employeenumber", "costcenter", "organization", "division", "department"),
})  # fmt: skip
"""Names that clients send without their schema, or that decide about access: an extension must not take them."""


class BadExtension(ValueError):
    """A schema document that cannot be served; `problems` has one sentence for each reason."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class Extension:
    """A schema that extends a resource type, `User` or `Group`."""

    resource: str
    schema: Schema

    @property
    def urn(self) -> str:
        return str(self.schema.id)


def read(text: str | bytes, resource: str) -> Extension:
    """Read one schema document.

    Raises:
        BadExtension: it is none, or promises what is not enforced here.
    """
    try:
        document = parse.loads(text)
        schema = Schema.model_validate(document)
    except ValidationError as error:
        told = (f"{'.'.join(str(part) for part in one['loc'])}: {one['msg'].lower()}" for one in error.errors())
        raise BadExtension([f"not a schema (RFC 7643 §7): {what}" for what in told]) from None
    except Exception as error:
        detail = getattr(error, "detail", None)
        raise BadExtension([str(detail or "not a schema document (RFC 7643 §7)")]) from None
    problems = [*_problems(schema, document)]
    if problems:
        raise BadExtension(problems)
    return Extension(resource, schema)


def _problems(schema: Schema, document: Any) -> Iterator[str]:
    urn = str(schema.id or "")
    if not isinstance(document, Mapping) or not _URN.fullmatch(urn):
        yield "id must be a URN like urn:example:params:scim:schemas:extension:acme:2.0:User"
    elif urn.lower().startswith(_TAKEN):
        yield f"id {urn} is in IETF's namespace; choose one of your own"
    if not schema.name:
        yield "it has no name"
    if not schema.attributes:
        yield "it has no attributes"
    names = [(one.name or "").lower() for one in schema.attributes or ()]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"attribute {name} is there twice"
    for name in sorted(_NAMES.intersection(names)):
        yield f"attribute {name} is one of the core or enterprise schema; choose another name"
    for attribute in schema.attributes or ():
        yield from _attribute_problems(attribute, str(attribute.name))


def _attribute_problems(attribute: Attribute, path: str) -> Iterator[str]:
    if not _NAME.fullmatch(attribute.name or ""):
        yield f"attribute {path!r}: a name has letters, digits, '-' and '_' (RFC 7643 §2.1)"
    if attribute.mutability not in (None, Mutability.read_write):
        yield f"attribute {path}: mutability must be readWrite; other kinds are not enforced here"
    if attribute.returned not in (None, Returned.default):
        yield f"attribute {path}: returned must be default; hiding values is not offered here"
    if attribute.uniqueness not in (None, Uniqueness.none):
        yield f"attribute {path}: uniqueness must be none; it is not enforced here"
    if attribute.type is None:
        yield f"attribute {path}: it has no type"
    elif attribute.type == Attribute.Type.complex and not attribute.sub_attributes:
        yield f"attribute {path}: a complex attribute has subAttributes"
    below = [(one.name or "").lower() for one in attribute.sub_attributes or ()]
    for name in sorted({name for name in below if below.count(name) > 1}):
        yield f"attribute {path}.{name} is there twice"
    for sub in attribute.sub_attributes or ():
        yield from _attribute_problems(sub, f"{path}.{sub.name}")
