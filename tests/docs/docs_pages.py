"""The documents as the tests see them: pages, fenced blocks, command lines, links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
CODE_SPAN = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Quoted:
    """Something a page quotes. Its text is what a test shows when it fails."""

    page: Path
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}: {self.text.strip().splitlines()[0]}"


def text_of(page: Path) -> str:
    return page.read_text("utf-8")


def fences(*languages: str) -> Iterator[Quoted]:
    """Yield the fenced blocks in these languages, without their indentation."""
    for page in PAGES:
        for indent, language, body in FENCE.findall(text_of(page)):
            if language in languages:
                yield Quoted(page, "\n".join(line.removeprefix(indent) for line in body.splitlines()))


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return FENCE.sub("", text_of(page))


def commands_in_fences() -> Iterator[Quoted]:
    """Yield every line of a shell block that calls idsync."""
    for block in fences("sh", "console", "bash"):
        for line in block.text.replace("\\\n", " ").splitlines():
            plain = line.strip().removeprefix("$ ")
            if plain.startswith("idsync "):
                yield Quoted(block.page, plain)


def commands_in_prose() -> Iterator[Quoted]:
    """Yield every code span that begins with an idsync command."""
    for page in PAGES:
        for span in CODE_SPAN.findall(prose(page)):
            plain = " ".join(span.split())
            if plain.startswith("idsync "):
                yield Quoted(page, plain)


def links() -> Iterator[Quoted]:
    """Yield every link to something in the repository."""
    for page in PAGES:
        for target in LINK.findall(prose(page)):
            if not re.match(r"[a-z]+:", target):
                yield Quoted(page, target)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, made as GitHub makes them."""
    return {slug(heading) for heading in HEADING.findall(prose(page))}


def slug(heading: str) -> str:
    kept = "".join(c for c in heading.lower() if c.isalnum() or c in " -_")
    return kept.strip().replace(" ", "-")
