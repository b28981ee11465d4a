"""A parsed filter as SQL over an allow-list of columns (RFC 7644 §3.4.2.2).

What a column holds is answered by the database alone. Anything else becomes a condition that finds at least the
matching rows (`exact` is False then), and the storage looks at those few with the filter itself. Client text only
ever travels as a parameter.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from scim2_models import InvalidFilterException, SCIMException
from scim2_models.path import (
    AttrPath,
    CompareOperator,
    Comparison,
    FilterNode,
    FilterVisitor,
    LogicalExpr,
    LogicalOperator,
    Not,
    Present,
    ValuePath,
)

from idsync.model import fold

MAX_LENGTH = 4096
MAX_DEPTH = 32
MAX_TERMS = 50
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[()\[\]]|[^\s"()\[\]]+', re.DOTALL)
_UNKEEPABLE = re.compile("[\0\ud800-\udfff]")


def guard(text: str, error: type[SCIMException] = InvalidFilterException) -> None:
    """Refuse a filter or path that is too long, too deep or too wide, before a parser sees it.

    Raises:
        SCIMException: of the class `error`.
    """
    if len(text) > MAX_LENGTH:
        raise error(detail=f"A filter or path has at most {MAX_LENGTH} characters.")
    if "\0" in text:
        raise error(detail="A filter or path holds no NUL character.")
    depth, terms = 0, 1
    for match in _TOKEN.finditer(text):
        word = match[0]
        if word[0] == '"':
            _check_text(word, error)
        depth += (word in ("(", "[")) - (word in (")", "]"))
        terms += word.lower() in ("and", "or")
        if depth > MAX_DEPTH:
            raise error(detail=f"A filter or path nests at most {MAX_DEPTH} expressions.")
        if terms > MAX_TERMS:
            raise error(detail=f"A filter has at most {MAX_TERMS} terms.")


def _check_text(word: str, error: type[SCIMException]) -> None:
    """Refuse a text that is not closed, or that no database takes once its escapes are read."""
    if len(word) < 2 or word[-1] != '"':
        raise error(detail="A quoted text is not closed.")
    if "\\u" in word:
        try:
            found = _UNKEEPABLE.search(json.loads(word, strict=False))
        except ValueError:
            return
        if found:
            raise error(detail="A quoted text holds NUL or half of a surrogate pair.")


@dataclass(frozen=True)
class Column:
    """One attribute in the database: `key` is the expression compared, `shape` prepares the operand for it."""

    key: str
    shape: Callable[[str], str] = str
    kind: str = "text"  # text, boolean, time, constant
    nullable: bool = True


_TIMES = {
    "meta.created": Column("created_at", kind="time", nullable=False),
    "meta.lastmodified": Column("updated_at", kind="time", nullable=False),
}
COLUMNS: Mapping[str, Mapping[str, Column]] = {
    "User": {
        "id": Column("id", nullable=False),
        "externalid": Column("external_id"),
        "username": Column("user_name_key", fold, nullable=False),
        "displayname": Column("display_key", fold),
        "active": Column("active", kind="boolean", nullable=False),
        "meta.resourcetype": Column("User", kind="constant", nullable=False),
        **_TIMES,
    },
    "Group": {
        "id": Column("id", nullable=False),
        "externalid": Column("external_id"),
        "displayname": Column("display_key", fold, nullable=False),
        "meta.resourcetype": Column("Group", kind="constant", nullable=False),
        **_TIMES,
    },
}
_MEMBER_LISTS = {
    ("Group", "members"): "id {no}IN (SELECT group_id FROM memberships WHERE member_id = :{p})",
    ("User", "groups"): (
        "id {no}IN (WITH RECURSIVE down (id) AS (SELECT member_id FROM memberships WHERE group_id = :{p}"
        " UNION SELECT m.member_id FROM memberships m JOIN down ON m.group_id = down.id) SELECT id FROM down)"
    ),
}
_EMAILS = ("emails", "emails.value")
_WITH_ADDRESS = "id IN (SELECT user_id FROM user_emails WHERE email_key = :{p})"
ASCII_WHEN_FOLDED = {
    "\u00df": "ss",
    "\u017f": "s",
    "\u037e": ";",
    "\u1e9e": "ss",
    "\u1fef": "`",
    "\u212a": "k",
    "\ufb00": "ff",
    "\ufb01": "fi",
    "\ufb02": "fl",
    "\ufb03": "ffi",
    "\ufb04": "ffl",
    "\ufb05": "st",
    "\ufb06": "st",
}
"""What `fold` turns into ASCII and the database's LOWER does not: the Kelvin sign, a German s, ligatures."""
_ORDER = {
    CompareOperator.gt: ">",
    CompareOperator.ge: ">=",
    CompareOperator.lt: "<",
    CompareOperator.le: "<=",
}
ANY, NONE = "1 = 1", "1 = 0"


@dataclass(frozen=True)
class Where:
    """A condition with its parameters.

    `exact` when it finds the matching rows and no others, `narrow` when an index of its own finds the few it has.
    """

    text: str = ANY
    params: Mapping[str, Any] = field(default_factory=dict)
    exact: bool = True
    narrow: bool = False


@dataclass(frozen=True)
class _Clause:
    text: str
    exact: bool = True
    narrow: bool = False


def where(node: FilterNode | None, resource: str) -> Where:
    """Translate a filter that is already bound to its model.

    Raises:
        InvalidFilterException: an operand is not of the attribute's type.
    """
    if node is None:
        return Where()
    compiler = _Compiler(resource)
    clause = compiler.visit(node)
    return Where(clause.text, compiler.params, clause.exact, clause.narrow)


@dataclass(frozen=True)
class Order:
    """An order of rows: SQL expressions that are never null, the last one the id, so that no two rows are equal."""

    keys: tuple[str, ...] = ("created_at", "id")
    descending: bool = False

    def text(self, *, back: bool = False) -> str:
        """Return the ORDER BY, or the one that walks the other way."""
        way = " DESC" if self.descending != back else ""
        return ", ".join(f"{key}{way}" for key in self.keys)

    def beyond(self, *, back: bool = False) -> str:
        """Return the condition for rows after (or before) the one whose keys are the parameters k0, k1, ..."""
        sign = "<" if self.descending != back else ">"
        return f"({', '.join(self.keys)}) {sign} ({', '.join(f':k{number}' for number in range(len(self.keys)))})"


IN_ORDER = Order()
"""As they came, the order of a list that asks for none."""


def order(path: str | None, resource: str, *, descending: bool) -> Order | None:
    """Return the order for a sortBy path (RFC 7644 §3.4.2.3), or None when no column holds it."""
    if not path:
        return IN_ORDER
    name = re.sub(r"^urn:.*:(?=[^:]*$)", "", path, flags=re.IGNORECASE).lower()
    column = COLUMNS[resource].get(name)
    if column is None or column.kind == "constant":
        return None
    if not column.nullable:
        return Order((column.key, "id"), descending)
    return Order((f"CASE WHEN {column.key} IS NULL THEN 1 ELSE 0 END", f"COALESCE({column.key}, '')", "id"), descending)


def like(text: str) -> str:
    """Escape the wildcards of LIKE; the statement says ESCAPE '\\'."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


class _Compiler(FilterVisitor[_Clause]):
    def __init__(self, resource: str) -> None:
        self.resource = resource
        self.params: dict[str, Any] = {}

    def _param(self, value: Any) -> str:
        name = f"f{len(self.params)}"
        self.params[name] = value
        return name

    def _name(self, path: AttrPath) -> str:
        name = f"{path.attr}.{path.sub_attr}" if path.sub_attr else path.attr
        if path.uri and not path.uri.lower().endswith(f":core:2.0:{self.resource}".lower()):
            return f"{path.uri}:{name}".lower()
        return name.lower()

    # -- the nodes -----------------------------------------------------------------------------------------------

    def visit_logical_expr(self, node: LogicalExpr) -> _Clause:
        terms = [self.visit(term) for term in node.terms]
        word = " AND " if node.op == LogicalOperator.and_ else " OR "
        some = any if node.op == LogicalOperator.and_ else all
        return _Clause(
            f"({word.join(term.text for term in terms)})",
            all(term.exact for term in terms),
            some(term.narrow for term in terms),
        )

    def visit_not(self, node: Not) -> _Clause:
        inner = self.visit(node.expr)
        return _Clause(f"(NOT {inner.text})") if inner.exact else _Clause(ANY, exact=False)

    def visit_present(self, node: Present) -> _Clause:
        column = COLUMNS[self.resource].get(self._name(node.attr_path))
        if column is None:
            return _Clause(ANY, exact=False)
        if column.kind != "text":
            return _Clause(ANY)
        return _Clause(f"({column.key} IS NOT NULL AND {column.key} <> '')" if column.nullable else ANY)

    def visit_value_path(self, node: ValuePath) -> _Clause:
        name = self._name(node.attr_path)
        inner = node.val_filter
        if isinstance(inner, Comparison) and inner.attr_path.attr.lower() == "value" and not inner.attr_path.sub_attr:
            listed = self._listed(name, inner, "value path")
            if listed is not None:
                return listed
        operand = _operand(inner)
        return self._address(operand) if name == "emails" and operand else self._superset(name, operand)

    def visit_comparison(self, node: Comparison) -> _Clause:
        name = self._name(node.attr_path)
        listed = self._listed(name.removesuffix(".value"), node, "comparison")
        if listed is not None:
            return listed
        if name in _EMAILS and node.op == CompareOperator.eq and isinstance(node.value, str) and node.value:
            return self._address(node.value)
        column = COLUMNS[self.resource].get(name)
        if column is None:
            return self._superset(name, node.value if node.op == CompareOperator.eq else None)
        if node.value is None:
            return self._null(column, node.op)
        return self._column(column, node)

    # -- the pieces ----------------------------------------------------------------------------------------------

    def _address(self, operand: str) -> _Clause:
        """Find the users with an address by its index; the filter itself looks at them, as `type` may matter."""
        param = self._param(fold(operand))
        return _Clause(_WITH_ADDRESS.format(p=param), exact=False, narrow=True)

    def _superset(self, name: str, operand: Any) -> _Clause:
        """Find at least the rows whose document holds a text; without one, every row is a candidate."""
        if name == "meta.location" or name.endswith(".$ref"):
            raise InvalidFilterException(detail=f"{name} cannot be filtered by.")
        derived = name.partition(".")[0] in ("groups", "members", "meta")
        if derived or not isinstance(operand, str) or not operand.isascii() or not operand:
            return _Clause(ANY, exact=False)
        low = operand.lower()
        param = self._param(f"%{like(json.dumps(low))}%")
        key = "LOWER(doc)"
        for letter, folded in ASCII_WHEN_FOLDED.items():
            if folded in low:
                key = f"REPLACE({key}, '{letter}', '{folded}')"
        return _Clause(f"{key} LIKE :{param} ESCAPE '\\'", exact=False)

    def _listed(self, name: str, node: Comparison, form: str) -> _Clause | None:
        """Answer `members eq id`, `members.value eq id` and `members[value eq id]` from the membership rows."""
        template = _MEMBER_LISTS.get((self.resource, name))
        negated = node.op == CompareOperator.ne and form == "comparison"
        if template is None or not isinstance(node.value, str) or not (node.op == CompareOperator.eq or negated):
            return None
        return _Clause(template.format(no="NOT " if negated else "", p=self._param(node.value)))

    def _null(self, column: Column, op: CompareOperator) -> _Clause:
        if op == CompareOperator.ne:
            return _Clause(f"{column.key} IS NOT NULL" if column.nullable else ANY)
        if op == CompareOperator.eq:
            return _Clause(f"{column.key} IS NULL" if column.nullable else NONE)
        return _Clause(NONE)

    def _column(self, column: Column, node: Comparison) -> _Clause:
        if column.kind == "boolean":
            return self._boolean(column, node)
        if column.kind == "time":
            return self._time(column, node)
        if not isinstance(node.value, str):
            raise InvalidFilterException(detail=f"{node.attr_path} is compared with a quoted text.")
        if column.kind == "constant":
            return _Clause(ANY, exact=False)
        text = self._text(column, node.op, node.value)
        if not column.nullable:
            return _Clause(text)
        if node.op == CompareOperator.ne:
            return _Clause(f"({column.key} IS NULL OR {text})")
        return _Clause(f"({column.key} IS NOT NULL AND {text})")

    def _text(self, column: Column, op: CompareOperator, value: str) -> str:
        key, param = column.key, self._param(column.shape(value))
        operand = f":{param}"
        if op == CompareOperator.eq:
            return f"{key} = {operand}"
        if op == CompareOperator.ne:
            return f"{key} <> {operand}"
        if op in _ORDER:
            return f"{key} {_ORDER[op]} {operand}"
        if column.shape is fold:
            pattern = like(column.shape(value))
            self.params[param] = {"co": f"%{pattern}%", "sw": f"{pattern}%", "ew": f"%{pattern}"}[op.value]
            return f"{key} LIKE {operand} ESCAPE '\\'"
        return self._case_exact(key, op, param, value)

    def _case_exact(self, key: str, op: CompareOperator, param: str, value: str) -> str:
        """LIKE ignores letter case in one database and not in the other: compare pieces instead."""
        if not value:
            return ANY
        if op == CompareOperator.co:
            return f"REPLACE({key}, :{param}, '') <> {key}"
        if op == CompareOperator.sw:
            return f"SUBSTR({key}, 1, LENGTH(:{param})) = :{param}"
        start = f"LENGTH({key}) - LENGTH(:{param}) + 1"
        return f"(LENGTH({key}) >= LENGTH(:{param}) AND SUBSTR({key}, {start}) = :{param})"

    def _boolean(self, column: Column, node: Comparison) -> _Clause:
        value = node.value
        if isinstance(value, str) and value.lower() in ("true", "false"):
            value = value.lower() == "true"
        if not isinstance(value, bool) or node.op not in (CompareOperator.eq, CompareOperator.ne):
            raise InvalidFilterException(detail=f"{node.attr_path} is compared by eq or ne with true or false.")
        wanted = value == (node.op == CompareOperator.eq)
        return _Clause(f"{column.key} = :{self._param(int(wanted))}")

    def _time(self, column: Column, node: Comparison) -> _Clause:
        """Compare in whole milliseconds, the precision `meta` shows."""
        if node.op in (CompareOperator.co, CompareOperator.sw, CompareOperator.ew):
            return _Clause(ANY, exact=False)
        low, high = _millisecond(node.value, str(node.attr_path))
        first, after = self._param(low / 1000), self._param((low + 1) / 1000)
        up = self._param(high / 1000)
        key = column.key
        inside = f"({key} >= :{first} AND {key} < :{after})" if low == high else NONE
        return _Clause(
            {
                CompareOperator.eq: inside,
                CompareOperator.ne: f"(NOT {inside})",
                CompareOperator.gt: f"{key} >= :{after}",
                CompareOperator.ge: f"{key} >= :{up}",
                CompareOperator.lt: f"{key} < :{up}",
                CompareOperator.le: f"{key} < :{after}",
            }[node.op]
        )


def _operand(node: FilterNode) -> Any:
    """Return a text every match of a value filter must hold, or None."""
    if isinstance(node, Comparison):
        named = node.attr_path.attr.lower() == "value"
        return node.value if named and node.op == CompareOperator.eq else None
    if isinstance(node, LogicalExpr) and node.op == LogicalOperator.and_:
        return next((found for term in node.terms if (found := _operand(term)) is not None), None)
    return None


def _millisecond(value: Any, name: str) -> tuple[int, int]:
    """Return a time as epoch milliseconds, rounded down and rounded up."""
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        detail = f"{name} is compared with a date and time like 2026-01-31T12:00:00Z."
        raise InvalidFilterException(detail=detail) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    exact = moment.timestamp() * 1000
    nearest = round(exact)
    if abs(exact - nearest) < 1e-3:
        return nearest, nearest
    return math.floor(exact), math.ceil(exact)
