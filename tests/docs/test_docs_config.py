"""config.example.toml is complete, and true."""

from __future__ import annotations

import os
import re
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner

from idsync import config
from idsync.cli.main import cli

from .docs_pages import ROOT

EXAMPLE = ROOT / "config.example.toml"
LEFT_OUT = re.compile(r"^#(?=\S)", re.MULTILINE)
"""What marks a setting that the example leaves out: "#" without a space."""
SECRETS = {
    "alerts.slack_webhook",
    "routero.admin_key",
    "scim.sources.token",
    "sources.okta.private_key",
    "sources.okta.api_token",
    "sources.graph.client_secret",
    "sinks.token",
    "sinks.secret_id",
    "store.password",
}
ENTRY = re.compile(
    r"(?<=^scim\.sources\.)[^.]+\.|(?<=^sources\.okta\.)[^.]+\.|(?<=^sources\.graph\.)[^.]+\.|(?<=^notify\.)[^.]+\.|(?<=^sinks\.)[^.]+\."
)
"""The name of a source or sink in the path of one of its settings."""
CHOSEN = {"server.public_url", "routero.base_url", "routero.admin_key_file"}
"""Outside of lists, what the example sets although the default is another."""


@pytest.fixture
def everything(tmp_path: Path) -> Path:
    """The example with every setting in force, also those it leaves out."""
    file = tmp_path / "config.toml"
    file.write_text(LEFT_OUT.sub("", EXAMPLE.read_text("utf-8")), "utf-8")
    return file


def test_the_example_passes_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("IDSYNC_")]:
        monkeypatch.delenv(name)
    done = CliRunner().invoke(cli, ["-c", str(EXAMPLE), "config", "check"])
    assert (done.exit_code, done.output) == (0, f"{EXAMPLE}: ok\n")


def test_the_example_sets_every_key_there_is(everything: Path) -> None:
    loaded = config.load(str(everything), {})
    shown = [(ENTRY.sub("", key), origin) for key, _, origin in config.shown(loaded)]
    assert {key for key, _ in shown} - {key for key, origin in shown if origin != "default"} == SECRETS


def test_the_example_shows_the_defaults() -> None:
    chosen = config.load(str(EXAMPLE), {}).config.model_dump()
    default = config.Config().model_dump()
    differing = {
        f"{table}.{key}"
        for table, values in chosen.items()
        if isinstance(values, dict)
        for key, value in values.items()
        if value != default[table][key]
    }
    assert differing - {"scim.sources"} == CHOSEN


def test_every_setting_has_a_comment_above_it() -> None:
    lines = EXAMPLE.read_text("utf-8").splitlines()
    bare = [line for above, line in pairwise(lines) if " = " in line and not above.startswith("# ")]
    assert [line for line in bare if not line.startswith("# ")] == []


def test_without_an_admin_key_or_a_source_there_is_no_start() -> None:
    assert {path for path, _ in config.start_problems(config.Config())} == {"routero.admin_key_file", "sources"}


def test_no_secret_stands_in_it() -> None:
    tree = tomllib.loads(EXAMPLE.read_text("utf-8"))
    assert "admin_key" not in tree["routero"]
    assert not any("token" in source for source in tree["scim"]["sources"])
