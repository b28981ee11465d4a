"""Filters as trees, thrown with dice, and their texts (RFC 7644 §3.4.2.2)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
EQUALITY = ("eq", "ne")
ORDERING = ("gt", "ge", "lt", "le")
SUBSTRING = ("co", "sw", "ew")
EVERY_OPERATOR = (*EQUALITY, *ORDERING, *SUBSTRING)


@dataclass(frozen=True)
class Name:
    """An attribute as a filter names it; `schema` is the URN of an extension, or ""."""

    attribute: str
    sub: str = ""
    schema: str = ""

    def __str__(self) -> str:
        prefix = f"{self.schema}:" if self.schema else ""
        return f"{prefix}{self.attribute}{f'.{self.sub}' if self.sub else ''}"


@dataclass(frozen=True)
class Compare:
    name: Name
    operator: str
    operand: Any


@dataclass(frozen=True)
class Present:
    name: Name


@dataclass(frozen=True)
class Not:
    inner: Filter


@dataclass(frozen=True)
class Join:
    """`word` is "and" or "or"."""

    word: str
    terms: tuple[Filter, ...]


@dataclass(frozen=True)
class Select:
    """`attribute[inner]`: some one value of a multi-valued attribute is such."""

    name: Name
    inner: Filter


Filter = Compare | Present | Not | Join | Select


@dataclass(frozen=True)
class Vocabulary:
    """What filters over one resource speak of: comparisons that make sense, by the type of their attribute."""

    texts: Sequence[Name]
    booleans: Sequence[Name]
    times: Sequence[Name]
    selections: dict[str, tuple[Sequence[str], Sequence[str]]]  # attribute: its texts, its booleans
    words: Sequence[str]
    moments: Sequence[str]
    values: Mapping[str, Sequence[str]]  # what an attribute really holds somewhere, by its name

    def operand(self, rng: Random, name: str) -> str:
        """Return a text to compare an attribute with: mostly one it holds, a part of that, or that in another case."""
        held = self.values.get(name)
        if not held or rng.random() < 0.3:
            return rng.choice(self.words)
        value = rng.choice(held)
        at = rng.randrange(len(value) + 1)
        return rng.choice((value, value, value, value.upper(), value.lower(), value.swapcase(), value[:at], value[at:]))


def leaf(rng: Random, words: Vocabulary) -> Filter:
    """Return one comparison or presence test whose operand is of the attribute's type."""
    kind = rng.random()
    if kind < 0.12:
        return Present(rng.choice((*words.texts, *words.booleans, *words.times)))
    if kind < 0.2 and words.booleans:
        return Compare(rng.choice(words.booleans), rng.choice(EQUALITY), rng.random() < 0.5)
    if kind < 0.3:
        return Compare(rng.choice(words.times), rng.choice((*EQUALITY, *ORDERING)), rng.choice(words.moments))
    if kind < 0.35:
        return Compare(rng.choice(words.texts), rng.choice(EQUALITY), None)
    name = rng.choice(words.texts)
    return Compare(name, rng.choice(("eq", "eq", "eq", *EVERY_OPERATOR)), words.operand(rng, str(name)))


def _inside(rng: Random, attribute: str, words: Vocabulary, depth: int) -> Filter:
    """Return a filter for the brackets of a selection."""
    texts, booleans = words.selections[attribute]
    if depth and rng.random() < 0.4:
        terms = tuple(_inside(rng, attribute, words, depth - 1) for _ in range(rng.choice((2, 2, 3))))
        return Join(rng.choice(("and", "and", "or")), terms)
    if depth and rng.random() < 0.12:
        return Not(_inside(rng, attribute, words, depth - 1))
    if booleans and rng.random() < 0.25:
        return Compare(Name(rng.choice(booleans)), rng.choice(EQUALITY), rng.random() < 0.7)
    if rng.random() < 0.1:
        return Present(Name(rng.choice((*texts, *booleans))))
    sub = rng.choice(texts)
    operator = rng.choice(("eq", "eq", "eq", *EVERY_OPERATOR))
    return Compare(Name(sub), operator, words.operand(rng, f"{attribute}.{sub}"))


def tree(rng: Random, words: Vocabulary, depth: int = 3) -> Filter:
    """Return a filter of at most this depth."""
    kind = rng.random()
    if depth and kind < 0.3:
        terms = tuple(tree(rng, words, depth - 1) for _ in range(rng.choice((2, 2, 2, 3, 4))))
        return Join(rng.choice(("and", "or")), terms)
    if depth and kind < 0.4:
        return Not(tree(rng, words, depth - 1))
    if kind < 0.6:
        attribute = rng.choice(list(words.selections))
        return Select(Name(attribute), _inside(rng, attribute, words, 2))
    return leaf(rng, words)


def _spelled(rng: Random, word: str) -> str:
    """Names, operators and words are case-insensitive (RFC 7644 §3.4.2.2, RFC 7643 §2.1)."""
    return rng.choice((word, word, word, word.upper(), word.capitalize()))


def text_of(node: Filter, rng: Random) -> str:
    """Write a filter in one of the ways that mean the same."""
    if isinstance(node, Join):
        joined = f" {_spelled(rng, node.word)} ".join(_term(term, node.word, rng) for term in node.terms)
        return f"({joined})" if rng.random() < 0.1 else joined
    if isinstance(node, Not):
        return f"{_spelled(rng, 'not')}{rng.choice((' ', ''))}({text_of(node.inner, rng)})"
    if isinstance(node, Select):
        return f"{_spelled(rng, str(node.name))}[{rng.choice(('', ' '))}{text_of(node.inner, rng)}]"
    if isinstance(node, Present):
        return f"{_spelled(rng, str(node.name))} {_spelled(rng, 'pr')}"
    return f"{_spelled(rng, str(node.name))} {_spelled(rng, node.operator)} {_literal(rng, node.operand)}"


def _literal(rng: Random, operand: Any) -> str:
    """Write an operand as JSON; half a surrogate pair has only its escaped form."""
    halved = isinstance(operand, str) and any("\ud800" <= one <= "\udfff" for one in operand)
    return json.dumps(operand, ensure_ascii=halved or rng.random() < 0.3)


def _term(node: Filter, word: str, rng: Random) -> str:
    """Put brackets around what would be read otherwise: `and` binds tighter than `or`."""
    written = text_of(node, rng)
    if isinstance(node, Join) and (node.word != word or rng.random() < 0.3):
        return f"({written})"
    return written


USER_NAMES = Vocabulary(
    texts=(
        *(Name(one) for one in ("userName", "displayName", "title", "nickName", "externalId", "id", "locale")),
        *(Name("name", one) for one in ("givenName", "familyName")),
        *(Name("emails", one) for one in ("", "value", "type", "display")),
        *(Name("phoneNumbers", one) for one in ("", "value", "type")),
        *(Name("groups", one) for one in ("", "value", "display", "type")),
        *(Name("meta", one) for one in ("resourceType", "version")),
        Name("department", schema=ENTERPRISE),
        Name("manager", "value", ENTERPRISE),
    ),
    booleans=(Name("active"), Name("emails", "primary")),
    times=(Name("meta", "created"), Name("meta", "lastModified")),
    selections={
        "emails": (("value", "type", "display"), ("primary",)),
        "phoneNumbers": (("value", "type"), ("primary",)),
        "groups": (("value", "display", "type"), ()),
    },
    words=(),
    moments=(),
    values={},
)
GROUP_NAMES = Vocabulary(
    texts=(
        *(Name(one) for one in ("displayName", "externalId", "id")),
        *(Name("members", one) for one in ("", "value", "display", "type")),
        *(Name("meta", one) for one in ("resourceType", "version")),
    ),
    booleans=(),
    times=(Name("meta", "created"), Name("meta", "lastModified")),
    selections={"members": (("value", "display", "type"), ())},
    words=(),
    moments=(),
    values={},
)
"""What is published and holds text, a boolean or a time, but no address; words, moments and values come with data."""
