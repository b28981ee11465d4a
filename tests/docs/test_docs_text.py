"""What the documents say exists: commands, settings, links, metrics, log events, addresses."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from idsync import config
from idsync.cli.main import cli

from .docs_pages import (
    PAGES,
    ROOT,
    Quoted,
    anchors,
    commands_in_fences,
    commands_in_prose,
    fences,
    links,
    slug,
    text_of,
)

ELSEWHERE = {"IDSYNC_ROUTERO__BASE_URL": "https://gateway.example.com"}
"""What a block that shows a part of a configuration leaves out."""


def words(line: str) -> list[str]:
    """Return the arguments of the first command of a shell line."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";|&<>")
    lexer.whitespace_split = True
    found = list(lexer)
    end = next((at for at, word in enumerate(found) if set(word) <= set(";|&<>")), len(found))
    return found[1:end]


def descend(arguments: list[str]) -> tuple[click.Command, list[str]]:
    """Walk from `idsync` to the command that is meant; raises click's errors."""
    command: click.Command = cli
    context = click.Context(cli, info_name="idsync")
    while isinstance(command, click.Group):
        _, arguments, _ = command.make_parser(context).parse_args(arguments)
        if not arguments:
            return command, []
        name, *arguments = arguments
        found = command.get_command(context, name)
        if found is None:
            msg = f"no command {name!r}"
            raise click.UsageError(msg)
        command, context = found, click.Context(found, info_name=name, parent=context)
    return command, arguments


def understand(line: str) -> None:
    """Let click read a whole command line, as it would before it runs it."""
    command, arguments = descend(words(line))
    command.make_context(command.name, arguments)


@pytest.mark.parametrize("line", list(commands_in_fences()), ids=str)
def test_a_command_line_is_understood_as_it_stands(line: Quoted) -> None:
    understand(line.text)


@pytest.mark.parametrize("span", list(commands_in_prose()), ids=str)
def test_a_command_named_in_a_sentence_exists_with_its_options(span: Quoted) -> None:
    command, arguments = descend(words(span.text))
    command.make_parser(click.Context(command)).parse_args(arguments)


def test_a_command_that_is_not_there_is_noticed() -> None:
    for line in (
        "idsync frobnicate",
        "idsync verify --loud",
        "idsync holds approve --checksum",
        "idsync --quiet serve",
    ):
        with pytest.raises(click.UsageError):
            understand(line)


@pytest.mark.parametrize("block", list(fences("toml")), ids=str)
def test_a_configuration_in_a_page_is_taken(block: Quoted, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(block.text, "utf-8")
    config.load(str(file), ELSEWHERE)


def test_the_generated_pages_say_what_the_code_says() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tools/reference.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"run: python tools/reference.py\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("link", list(links()), ids=str)
def test_a_link_leads_somewhere(link: Quoted) -> None:
    path, _, anchor = link.text.partition("#")
    target = (link.page.parent / path).resolve() if path else link.page
    assert target.exists()
    assert target.is_relative_to(ROOT)
    if anchor:
        assert anchor in anchors(target)


def test_anchors_are_made_as_github_makes_them() -> None:
    assert slug("A key is still alive (exit code 5)") == "a-key-is-still-alive-exit-code-5"


def test_operations_names_every_metric() -> None:
    made = set(re.findall(r'"(idsync_[a-z_]+)"', (ROOT / "idsync/metrics.py").read_text("utf-8")))
    assert {name for name in made if name not in text_of(ROOT / "docs/operations.md")} == set()


def test_operations_names_every_log_event() -> None:
    pattern = re.compile(r'\blog\.(?:debug|info|warning|error|critical|exception)\(\s*"([a-z_.]+)"')
    rooms = (path for path in (ROOT / "idsync").rglob("*.py") if not {"sandbox", "demo"} & set(path.parts))
    told = {event for path in rooms for event in pattern.findall(path.read_text("utf-8"))}
    page = text_of(ROOT / "docs/operations.md")
    assert {event for event in told if f"`{event}`" not in page} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_nobody_is_named_and_no_machine(page: Path) -> None:
    text = text_of(page)
    assert set(re.findall(r"[\w.+-]+@([\w-]+\.[\w.-]+\w)", text)) <= {"example.com"}
    assert not re.search(r"/(home|root|Users/\w+)/", text)
