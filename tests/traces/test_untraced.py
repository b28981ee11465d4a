"""Without `[traces]` nothing is loaded for it; what is wrong in it is said before anything starts."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.daemon import idsync
from support.fixtures import Opener
from support.settings import write_settings

from idsync import config
from idsync.doctor import channels
from idsync.errors import ConfigError
from idsync.traces import UNTRACED

OPEN = """
import asyncio, sys
from idsync import config
from idsync.app import opened
import idsync.app.daemon, idsync.web.servers

async def begin():
    async with opened(config.load(sys.argv[1], {}).config):
        print(*(name for name in sys.modules if name.startswith(("opentelemetry", "google", "idsync.otlp"))))

asyncio.run(begin())
"""
AT = "http://127.0.0.1:4318"
INSTALLED = importlib.util.find_spec("opentelemetry") is not None


def test_nothing_is_loaded_where_nobody_is_told(tmp_path: Path) -> None:
    settings = write_settings(tmp_path, "http://127.0.0.1:9")
    done = subprocess.run([sys.executable, "-c", OPEN, str(settings)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "\n"), done.stderr


@pytest.mark.parametrize(
    ("table", "path", "what"),
    [
        ({"otlp_endpoint": "collector:4318"}, "otlp_endpoint", "http(s) address"),
        ({"otlp_endpoint": "http://[::1"}, "otlp_endpoint", "http(s) address"),
        ({"otlp_endpoint": "https://user:pass@otel.example.com"}, "otlp_endpoint", "without user name"),
        ({"otlp_endpoint": "https://otel.example.com/?key=secret"}, "otlp_endpoint", "without user name"),
        ({"otlp_endpoint": f"{AT}/v1/traces/"}, "otlp_endpoint", "leave /v1/traces out"),
        ({"headers_file": "/run/secrets/otel"}, "otlp_endpoint", "missing"),
        ({"otlp_endpoint": "http://otel:4318", "headers_file": "/f"}, "otlp_endpoint", "plain http would show"),
        ({"otlp_endpoint": AT, "sample": 0}, "sample", "greater than 0"),
        ({"otlp_endpoint": AT, "sample": 1.5}, "sample", "less than or equal to 1"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path: Path, table: dict[str, Any], path: str, what: str) -> None:
    settings = write_settings(tmp_path, "http://127.0.0.1:9", traces=table)
    with pytest.raises(ConfigError) as refused:
        config.load(str(settings), {})
    [(where, said)] = refused.value.problems
    assert where == f"traces.{path}"
    assert what in said
    assert "secret" not in said


@pytest.mark.parametrize("endpoint", ["http://otel-collector.telemetry:4318", "https://otel.example.com/base", AT])
def test_a_collector_may_be_reached_in_clear_where_no_header_goes_along(tmp_path: Path, endpoint: str) -> None:
    settings = write_settings(tmp_path, "http://127.0.0.1:9", traces={"otlp_endpoint": endpoint})
    assert config.load(str(settings), {}).config.traces.otlp_endpoint == endpoint


def test_headers_are_read_and_what_is_none_is_not_repeated(tmp_path: Path) -> None:
    file = tmp_path / "headers"
    file.write_text("Authorization: Bearer abc def\n X-Tenant:one \n")
    assert config.trace_headers(str(file)) == {"Authorization": "Bearer abc def", "X-Tenant": "one"}
    for wrong in ("Authorization: fine\nsecret-without-colon", "Authorization: se\x00cret", "a b: secret", "X-Key:"):
        file.write_text(wrong)
        with pytest.raises(ConfigError, match="is no header") as refused:
            config.trace_headers(str(file))
        assert "secret" not in str(refused.value)


def test_doctor_says_whether_traces_can_be_sent(tmp_path: Path) -> None:
    def says(**table: str) -> list[tuple[bool | None, str]]:
        settings = write_settings(tmp_path, "http://127.0.0.1:9", traces=table)
        return [(check.ok, check.says) for check in channels.traces(config.load(str(settings), {}).config)]

    assert says() == []
    [(ok, said)] = says(otlp_endpoint=AT, headers_file=str(tmp_path / "nowhere"))
    assert (ok, said.partition(":")[0]) == (False, "traces.headers_file")
    [(ok, said)] = says(otlp_endpoint=AT)
    assert (ok, AT in said) == (INSTALLED, INSTALLED)


@pytest.mark.skipif(INSTALLED, reason="OpenTelemetry is installed here")
def test_without_the_extra_idsync_runs_untraced_and_says_so(tmp_path: Path, opened: Opener) -> None:
    home = opened(traces={"otlp_endpoint": AT})
    assert home.core.tracer is UNTRACED
    opened.close()
    said = idsync(opened.settings, "config", "check", "--start", "--json")
    assert said.code == 2
    [problem] = json.loads(said.out)["problems"]
    assert problem["path"] == "traces.otlp_endpoint"
    assert 'pip install "idsync[otel]"' in problem["what"]
