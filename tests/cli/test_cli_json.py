"""Every reading command has `--json`: one document on stdout, whatever the verdict."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

import click
import pytest

from idsync.cli.main import COMMANDS

WRITING = {
    "serve",
    "revoke",
    "restore",
    "link",
    "unlink",
    "sandbox",
    "demo",
    "approve",
    "reject",
    "bind",
    "unbind",
    "backup",
    "completion",
    "freeze",
    "thaw",
}
"""Commands that change something or stay in the foreground; some of them have `--json` too."""


def reading() -> Iterator[tuple[str, click.Command]]:
    for name, (module, _) in COMMANDS.items():
        command = getattr(importlib.import_module(f"idsync.cli.{module}"), name)
        inner = command.commands if isinstance(command, click.Group) else {"": command}
        for inner_name, leaf in inner.items():
            if not {name, inner_name} & WRITING and (name, inner_name) != ("token", "revoke"):
                yield f"{name} {inner_name}".strip(), leaf


@pytest.mark.parametrize(("name", "command"), [pytest.param(*found, id=found[0]) for found in reading()])
def test_a_reading_command_has_json(name: str, command: click.Command) -> None:
    assert any("--json" in option.opts for option in command.params), f"idsync {name} has no --json"
