"""What can be said of the image, the unit and the CI script without an engine to run them."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import stat
import subprocess
import textwrap
import typing
from configparser import RawConfigParser
from pathlib import Path
from typing import Any

import pytest

import idsync
from idsync import config
from idsync.errors import ConfigError

from .docs_pages import ROOT

Instruction = tuple[str, str]
RUNNING = ("RUN", "CMD", "ENTRYPOINT", "HEALTHCHECK")
SECRET = re.compile(r"key|token|secret|password", re.IGNORECASE)


def dockerfile() -> list[Instruction]:
    """Return the instructions of the Dockerfile with their arguments, comments dropped, lines joined."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE)
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines()]
    return [(line.split()[0].upper(), line.split(maxsplit=1)[1]) for line in lines if line]


def last_stage() -> list[Instruction]:
    every = dockerfile()
    starts = [at for at, (name, _) in enumerate(every) if name == "FROM"]
    return every[starts[-1] :]


def the_one(name: str) -> str:
    found = [argument for instruction, argument in last_stage() if instruction == name]
    assert len(found) == 1
    return found[0]


def test_it_runs_as_nobody_in_particular() -> None:
    assert the_one("USER") == "65532:65532"


def test_it_starts_without_a_shell_so_that_signals_arrive() -> None:
    assert json.loads(the_one("ENTRYPOINT")) == ["idsync"]
    assert json.loads(the_one("CMD")) == ["serve"]
    assert json.loads(the_one("HEALTHCHECK").partition("CMD ")[2])[0] == "python"


def test_the_health_check_is_a_program() -> None:
    code = json.loads(the_one("HEALTHCHECK").partition("CMD ")[2])[2]
    compile(code, "healthcheck", "exec")
    assert "/livez" in code


def test_bases_are_named_exactly_and_all_alike() -> None:
    bases = {argument.split()[0] for name, argument in dockerfile() if name == "FROM"}
    assert bases == {"python:3.13-slim-bookworm"}


def test_every_package_comes_with_a_hash_or_from_here() -> None:
    installs = [
        argument for name, argument in dockerfile() if name == "RUN" and re.search(r'pip"?,? "?install', argument)
    ]
    assert len(installs) == 3
    assert all("--require-hashes" in line or ("--no-index" in line and "--no-deps" in line) for line in installs)


def test_nothing_is_fetched_from_elsewhere() -> None:
    names = {name for name, _ in dockerfile()}
    assert "ADD" not in names
    assert not any("curl" in argument or "wget" in argument for name, argument in dockerfile() if name in RUNNING)


def test_it_holds_no_secret() -> None:
    settings = [argument for name, argument in dockerfile() if name in ("ENV", "ARG")]
    assert not any(SECRET.search(argument) for argument in settings)


def test_the_state_is_a_volume_of_that_user() -> None:
    assert the_one("VOLUME") == "/var/lib/idsync"
    assert any("-o 65532" in argument and "/var/lib/idsync" in argument for _, argument in last_stage())


def test_the_public_bind_of_the_image_is_refused_until_a_proxy_is_named() -> None:
    environment = dict(re.findall(r"(IDSYNC_\w+)=(\S+)", the_one("ENV")))
    assert environment == {"IDSYNC_SERVER__HOST": "0.0.0.0"}  # noqa: S104
    example = str(ROOT / "config.example.toml")
    with pytest.raises(ConfigError, match=r"server\.host"):
        config.load(example, environment)
    config.load(example, environment | {"IDSYNC_SERVER__TRUSTED_PROXIES": '["172.30.0.0/24"]'})


def test_only_what_is_copied_goes_to_the_builder() -> None:
    allowed = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text("utf-8"), re.MULTILINE)
    copied = [a for name, a in dockerfile() if name == "COPY" and "--from" not in a]
    sources = {source.split("/")[0] for argument in copied for source in argument.split()[:-1]}
    assert sources == set(allowed)


def test_the_compose_file_names_a_proxy_network_that_the_configuration_takes() -> None:
    text = (ROOT / "deploy/compose.yaml").read_text("utf-8")
    environment = dict(re.findall(r"^ +(IDSYNC_\w+): '?([^'\n]+)'?$", text, re.MULTILINE))
    loaded = config.load(str(ROOT / "config.example.toml"), environment | {"IDSYNC_SERVER__HOST": "0.0.0.0"})  # noqa: S104
    assert loaded.config.server.trusted_proxies[0] in text.partition("networks:\n  front:")[2]


class Unit(RawConfigParser):
    """A file of systemd: its keys have letter case."""

    def optionxform(self, optionstr: str) -> str:
        return optionstr


def test_the_unit_is_not_root_and_hands_the_key_over_as_a_credential() -> None:
    unit = Unit(strict=False, interpolation=None)
    unit.read(ROOT / "deploy/idsync.service", "utf-8")
    service = unit["Service"]
    assert service["DynamicUser"] == "yes"
    assert service["LoadCredential"] == "admin_key:/etc/idsync/admin_key"
    assert service["ExecStart"].endswith(" serve")
    text = (ROOT / "deploy/idsync.service").read_text("utf-8")
    assert "Environment=IDSYNC_ROUTERO__ADMIN_KEY_FILE=%d/admin_key\n" in text
    assert int(service["TimeoutStopSec"]) > 30


def test_the_unit_speaks_to_systemd_and_reloads() -> None:
    unit = Unit(strict=False, interpolation=None)
    unit.read(ROOT / "deploy/idsync.service", "utf-8")
    service = unit["Service"]
    assert (service["Type"], service["ExecReload"]) == ("notify", "/bin/kill -HUP $MAINPID")
    assert int(service["WatchdogSec"]) >= 30


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_the_unit_is_as_closed_as_the_page_says() -> None:
    line = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(ROOT / "deploy/idsync.service")]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    level = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert level is not None, done.stderr
    assert float(level[1]) <= 1.1


DEPLOYED = sorted(path for path in (ROOT / "deploy").rglob("*") if path.is_file())


@pytest.mark.parametrize("file", DEPLOYED, ids=lambda file: file.name)
def test_settings_named_in_deploy_exist(file: Path) -> None:
    """Those of list entries are named by an example's name, which is no key; what is left of it has to be one."""
    for name in set(re.findall(r"IDSYNC_[A-Z0-9_]+__[A-Z0-9_]+", file.read_text("utf-8"))):
        where: Any = config.Config
        for key in name.removeprefix("IDSYNC_").lower().split("__"):
            fields = getattr(where, "model_fields", {})
            if key in fields:
                kind = fields[key].annotation
                where = next((inner for inner in typing.get_args(kind) if hasattr(inner, "model_fields")), kind)
                last = key
        assert name.lower().endswith(last), name


def test_the_try_out_has_a_configuration_that_is_taken(tmp_path: Path) -> None:
    text = (ROOT / "deploy/compose.sandbox.yaml").read_text("utf-8")
    content = text.partition("    content: |\n")[2].partition("\nvolumes:")[0]
    file = tmp_path / "config.toml"
    file.write_text(textwrap.dedent(content), "utf-8")
    environment = dict(re.findall(r"^ +(IDSYNC_\w+__\w+): '?([^'\n]+)'?$", text, re.MULTILINE))
    loaded = config.load(str(file), environment | {"IDSYNC_SERVER__HOST": "0.0.0.0"})  # noqa: S104
    assert config.start_problems(loaded.config) == []


def test_every_file_names_the_same_release() -> None:
    release = runpy.run_path(str(ROOT / "tools/release.py"))
    wanted = release["version"]()
    assert wanted == idsync.__version__
    for name, pattern in release["PLACES"]:
        found = re.findall(pattern, (ROOT / name).read_text("utf-8"), re.MULTILINE)
        assert found[:1] == [wanted], name


def test_the_chart_runs_without_rights_and_one_process_on_a_file() -> None:
    text = (ROOT / "deploy/helm/idsync/templates/deployment.yaml").read_text("utf-8")
    for line in (
        "replicas: {{ .Values.replicas }}",
        "type: Recreate",
        "runAsNonRoot: true",
        "readOnlyRootFilesystem: true",
        "allowPrivilegeEscalation: false",
        "drop: [ALL]",
        "automountServiceAccountToken: false",
    ):
        assert re.search(rf"^ +{re.escape(line)}$", text, re.MULTILINE), line
    seconds = re.search(r"terminationGracePeriodSeconds: (\d+)", text)
    assert seconds is not None
    assert int(seconds[1]) > 30
    json.loads((ROOT / "deploy/helm/idsync/values.schema.json").read_text("utf-8"))


def test_ci_runs_what_the_readme_says() -> None:
    script = ROOT / ".ci/run"
    text = script.read_text("utf-8")
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail\n" in text
    assert "make test" in text
    assert "make test" in (ROOT / "README.md").read_text("utf-8")
    assert os.access(script, os.X_OK)
    assert stat.S_IMODE(script.stat().st_mode) & stat.S_IWOTH == 0
