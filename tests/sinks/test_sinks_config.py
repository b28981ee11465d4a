"""`[[sinks]]`: every mistake at once, each one line with its path; secrets only from files and the environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from support.stores import url_of

from idsync.app import sink_problems, sinks_of
from idsync.clock import SystemClock
from idsync.config import Config, Loaded, load, place_of, shown, start_problems
from idsync.errors import ConfigError
from idsync.metrics import Metrics
from idsync.store.opening import store_of

from .handed import deliver, problems, refused

BASE = """
[routero]
base_url = "https://gateway.example.com"
admin_key_file = "/dev/null"
[[scim.sources]]
name = "okta-push"
[[sinks]]
name = "a"
"""
VAULT = 'kind = "vault"\nurl = "https://vault.example.com:8200"\npath = "teams/{alias}"\n'
PODS = 'kind = "kubernetes"\nsecret = "keys"\n'


def loaded(folder: Path, sink: str, environ: Mapping[str, str] | None = None) -> Loaded:
    path = folder / "config.toml"
    path.write_text(BASE + sink)
    return load(str(path), environ or {})


def config(folder: Path, sink: str, environ: Mapping[str, str] | None = None) -> Config:
    return loaded(folder, sink, environ).config


@pytest.mark.parametrize(
    ("sink", "path", "says"),
    [
        ('kind = "post-it"', "kind", "input should be 'file', 'command', 'vault' or 'kubernetes'"),
        ('kind = "file"', "path", "missing; an absolute path"),
        ('kind = "file"\npath = "keys/{alias}"', "path", "absolute path of a file"),
        ('kind = "file"\npath = "/run/../{alias}"', "path", "without '..'"),
        ('kind = "file"\npath = "/run/keys/"', "path", "absolute path of a file"),
        (
            'kind = "file"\npath = "/run/{alias}.{user}"',
            "path",
            "{user} is no placeholder; there are {team} and {alias}",
        ),
        ('kind = "file"\npath = "/run/{alias"', "path", "{ is no placeholder"),
        ('kind = "file"\npath = "/run/x"\nmode = "0666"', "mode", "input should be '0600' or '0640'"),
        ('kind = "file"\npath = "/run/x"\nurl = "https://x"', "url", 'does not belong to kind "file"'),
        ('kind = "command"', "command", "missing; a program and its arguments"),
        ('kind = "command"\ncommand = ["put-key"]', "command", "whole path of a program"),
        ('kind = "command"\ncommand = ["/bin/{alias}"]', "command", "whole path of a program"),
        ('kind = "command"\ncommand = ["/bin/x", "{secret}"]', "command", "{secret} is no placeholder"),
        ('kind = "command"\ncommand = ["/bin/x"]\nenvironment = ["IDSYNC_A"]', "environment", "idsync's own"),
        ('kind = "command"\ncommand = ["/bin/x"]\ntimeout = "0s"', "timeout", "greater than 0"),
        ('kind = "vault"\npath = "x"\ntoken_file = "/t"', "url", "missing; like https://vault"),
        (VAULT, "", "give one credential: token_file, or role_id and secret_id_file"),
        (VAULT + 'token_file = "/t"\nrole_id = "r"', "", "give one credential"),
        (VAULT + 'role_id = "r"', "secret_id_file", "missing"),
        (VAULT + 'secret_id_file = "/s"', "role_id", "missing"),
        (VAULT + 'token = "hvs.x"', "token", "a secret; use token_file"),
        (VAULT + 'role_id = "r"\nsecret_id = "hvs.x"', "secret_id", "a secret; use secret_id_file"),
        (VAULT.replace("https", "http") + 'token_file = "/t"', "url", "plain http would show the credential"),
        (VAULT.replace("teams", "secret/data") + 'token_file = "/t"', "path", "leave out the mount and 'data/'"),
        (VAULT.replace("teams", "/teams") + 'token_file = "/t"', "path", "none before or after"),
        (VAULT.replace("teams", "../teams") + 'token_file = "/t"', "path", "names with '/'"),
        ('kind = "kubernetes"', "secret", "missing; name of the Secret"),
        ('kind = "kubernetes"\nsecret = "Keys"', "secret", "lower case letters"),
        (PODS + 'field = "a/b"', "field", "a field of a Secret"),
        (PODS + 'namespace = "a/b"', "namespace", "lower case letters"),
        (PODS + 'api_url = "http://10.0.0.1"\nnamespace = "n"\ntoken_file = "/t"', "api_url", "plain http"),
        (PODS + 'api_url = "https://10.0.0.1"\nnamespace = "n"', "token_file", "outside the cluster"),
        (PODS + 'api_url = "https://10.0.0.1"\ntoken_file = "/t"', "namespace", "outside the cluster"),
        ('kind = "file"\npath = "/x"\n[[sinks]]\nname = "a"\nkind = "file"\npath = "/y"', "", "named twice"),
    ],
)
def test_each_mistake_is_one_line_with_its_path(tmp_path: Path, sink: str, path: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(tmp_path, sink)
    ((told, what),) = caught.value.problems
    assert told in (f"sinks.a{path and '.'}{path}", f"sinks.0.{path}")
    assert says in what


@pytest.mark.parametrize(
    ("sink", "place"),
    [
        ('kind = "file"\npath = "/run/{team}/{alias}"', "file /run/ds/%2E.%2Fkey"),
        ('kind = "command"\ncommand = ["/bin/put", "{alias}"]', "stdin of /bin/put %2E.%2Fkey"),
        (VAULT + 'token_file = "/t"', "https://vault.example.com:8200 secret/teams/%2E.%2Fkey, field key"),
        (
            VAULT + 'token_file = "/t"\nnamespace = "n"',
            "https://vault.example.com:8200 n secret/teams/%2E.%2Fkey, field key",
        ),
        (PODS + 'field = "{alias}"', "Secret (idsync's own namespace)/keys, field ../key"),
    ],
)
def test_a_place_can_be_named(tmp_path: Path, sink: str, place: str) -> None:
    assert place_of(config(tmp_path, sink).sinks[0], "../key", "ds") == place


def test_a_secret_may_come_from_the_environment_and_is_never_shown(tmp_path: Path) -> None:
    environ = {"IDSYNC_SINKS__A__TOKEN": "hvs.canary"}
    found = loaded(tmp_path, VAULT, environ)
    assert found.config.sinks[0].token is not None
    rows = {key: (value, origin) for key, value, origin in shown(found)}
    assert rows["sinks.a.token"] == ("***", "environment IDSYNC_SINKS__A__TOKEN")
    assert "canary" not in repr(rows)


def test_what_can_be_seen_without_asking_is_told_and_keeps_no_daemon_from_starting(tmp_path: Path) -> None:
    sinks = f"""kind = "file"\npath = "{tmp_path}/missing/key"
    [[sinks]]\nname = "b"\nkind = "command"\ncommand = ["{tmp_path}/missing"]
    [[sinks]]\nname = "c"\n{VAULT}token_file = "{tmp_path}/missing"\nca_file = "{tmp_path}/missing"
    [[sinks]]\nname = "d"\n{VAULT}role_id = "r"\nsecret_id_file = "{tmp_path}/missing"
    """
    found = config(tmp_path, sinks)
    assert {path for path, _ in sink_problems(found)} == {
        "sinks.a",
        "sinks.b",
        "sinks.c.token_file",
        "sinks.c.ca_file",
        "sinks.d.secret_id_file",
    }
    assert not [path for path, _ in start_problems(found) if path.startswith("sinks")]


def test_deliveries_are_counted(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir(mode=0o700)
    store = store_of(url_of(tmp_path / "idsync.db"))
    store.open()
    metrics = Metrics(store.reader, SystemClock().now)
    found = config(tmp_path, f'kind = "file"\npath = "{tmp_path}/keys/{{team}}"')
    sink = sinks_of(found.sinks, metrics=metrics)["a"]
    assert problems(sink) == []
    deliver(sink)
    refused(sink, team=None)
    count = metrics.registry.get_sample_value
    for result in ("taken", "failed"):
        assert count("idsync_sink_deliveries_total", {"sink": "a", "result": result}) == 1
    store.close()
