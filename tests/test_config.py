"""Configuration: every mistake at once with its path, secrets never in the file, the environment over the file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from idsync.config import Config, Loaded, admin_key, load, notes, read_secret, shown, start_problems
from idsync.errors import ConfigError

BASE = """
[routero]
base_url = "https://gateway.example.com"
[[scim.sources]]
name = "okta-push"
idp = "okta"
[[teams]]
alias = "data-science"
groups = ["Data"]
max_budget = 100
"""


class Folder:
    """A configuration file that a test writes and loads."""

    def __init__(self, path: Path) -> None:
        self.path = path / "config.toml"

    def load(self, text: str = BASE, environ: Mapping[str, str] | None = None) -> Loaded:
        self.path.write_text(text, "utf-8")
        return load(str(self.path), environ or {})

    def config(self, text: str = BASE, environ: Mapping[str, str] | None = None) -> Config:
        return self.load(text, environ).config

    def problems(self, text: str = BASE, environ: Mapping[str, str] | None = None) -> dict[str, str]:
        with pytest.raises(ConfigError) as caught:
            self.load(text, environ)
        return dict(caught.value.problems)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_a_small_file_is_enough(folder: Folder) -> None:
    config = folder.config()
    assert config.scim.sources[0].directory == "okta"
    assert config.teams[0].team_id == "data-science"
    assert (config.server.host, config.server.port, config.server.ops_port) == ("127.0.0.1", 8080, 9090)
    assert (config.policy.departed, config.policy.group_loss_delete_after) == ("any", 600.0)
    assert (config.guard.max_push_departures, config.routero.timeout) == (50, 10.0)


def test_every_mistake_is_told_in_one_go_with_its_path(folder: Folder) -> None:
    found = folder.problems(
        """
        colour = "blue"
        [server]
        port = 70000
        hots = "127.0.0.1"
        [routero]
        base_url = "https://gateway.example.com"
        timeout = "soon"
        [policy]
        departed = "some"
        [[scim.sources]]
        idp = "okta"
        [[teams]]
        alias = "a"
        max_budget = -1
        """
    )
    assert set(found) == {
        "colour",
        "server.port",
        "server.hots",
        "routero.timeout",
        "policy.departed",
        "scim.sources.0.name",
        "teams.a.max_budget",
    }
    assert (found["colour"], found["server.hots"]) == ("unknown key", "unknown key; did you mean host?")
    assert "90s, 10m, 24h" in found["routero.timeout"]


def test_what_only_shows_in_the_whole_is_told_in_one_go_too(folder: Folder) -> None:
    found = folder.problems(
        """
        [server]
        host = "0.0.0.0"
        public_url = "idsync.example.com"
        [store]
        url = "mysql://db/idsync"
        [[scim.sources]]
        name = "cli"
        allow_from = ["10.0.0.0/8", "everywhere"]
        [[roles]]
        role = "proxy_admin"
        """
    )
    assert set(found) == {
        "server.host",
        "server.public_url",
        "store.url",
        "routero.base_url",
        "scim.sources.cli",
        "scim.sources.cli.allow_from",
        "roles.proxy_admin",
    }


REFUSED = """
[routero]
base_url = "https://gateway.example.com"
[server]
port = 8180
public_url = "idsync.example.com"
trusted_proxies = ["10.0.0.0/8"]
[[scim.sources]]
name = "okta"
[[teams]]
alias = "data"
budget_duration = "monthly"
[[teams.keys]]
alias = "ci"
sink = "vault"
[[sinks]]
name = "vault"
kind = "file"
path = "/run/keys/{alias}"
"""


@pytest.mark.parametrize(
    ("was", "becomes", "told", "not_told"),
    [
        ('alias = "data"', 'alias = "data"\nmax_bugdet = 5', {"teams.data.max_bugdet": "did you mean max_budget?"}, ()),
        ('alias = "data"', 'alias = "data"\nkreys = 5', {"teams.data.kreys": "did you mean keys?"}, ()),
        ('alias = "ci"', 'alias = "ci"\ndurtion = "1d"', {"teams.data.keys.ci.durtion": "did you mean duration?"}, ()),
        ('alias = "ci"', 'alias = "ci"\ngrace = "1 week"', {"teams.data.keys.ci.grace": "24h"}, ()),
        ('kind = "file"', 'kind = "fiel"', {"sinks.vault.kind": "'file'"}, ("teams.data.keys.ci.sink",)),
        ('path = "/run', 'pth = "/run', {"sinks.vault.pth": "did you mean path?"}, ("sinks.vault.path",)),
        ('base_url = "https', 'base_ulr = "https', {"routero.base_ulr": "base_url?"}, ("routero.base_url",)),
        ("base_url", "sso_idp = 'okta'\nbase_url", {}, ()),
        ('name = "okta"', 'idp = "okta"', {"scim.sources.0.name": "required"}, ("routero.sso_idp",)),
    ],
)
def test_a_key_that_is_refused_hides_nothing_and_makes_nothing_up(
    folder: Folder, was: str, becomes: str, told: dict[str, str], not_told: tuple[str, ...]
) -> None:
    found = folder.problems(REFUSED.replace(was, becomes, 1))
    assert set(found) == {"server.public_url", "teams.data.budget_duration", *told}
    assert all(words in found[path] for path, words in told.items())
    assert not set(not_told) & set(found)


def test_without_any_file_that_is_what_is_told(folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    places = ("./config.toml", "/etc/idsync/config.toml", "-c", "IDSYNC_CONFIG")
    for environ, others in (({}, set()), ({"IDSYNC_SERVER__PORT": "1"}, {"routero.base_url"})):
        with pytest.raises(ConfigError) as caught:
            load(None, environ)
        found = dict(caught.value.problems)
        assert set(found) == {"config.toml", *others}
        assert found["config.toml"].startswith("there is no configuration file: ")
        assert all(place in found["config.toml"] for place in places)
    alone = load(None, {"IDSYNC_ROUTERO__BASE_URL": "https://gateway.example.com"})
    assert (alone.path, alone.config.routero.base_url) == (None, "https://gateway.example.com")


@pytest.mark.parametrize(
    ("server", "address", "noted"),
    [
        ("", "http://127.0.0.1:8080", False),
        ("port = 8180", "http://127.0.0.1:8180", False),
        ('host = "::1"\nport = 8180', "http://[::1]:8180", False),
        ("port = 0", "http://127.0.0.1:0", True),
        ('host = "0.0.0.0"\ntrusted_proxies = ["10.0.0.0/8"]', "http://127.0.0.1:8080", True),
        ('port = 8180\npublic_url = "http://127.0.0.1:8080"', "http://127.0.0.1:8080", True),
        ('port = 8180\npublic_url = "https://idsync.example.com"', "https://idsync.example.com", False),
    ],
)
def test_the_address_in_answers_follows_host_and_port_and_is_told_where_it_cannot_be_right(
    folder: Folder, server: str, address: str, noted: bool
) -> None:
    config = folder.config(f"[server]\n{server}\n{BASE}")
    assert config.server.public_url == address
    assert [path for path, _ in notes(config)] == ["server.public_url"] * noted


# -- secrets ------------------------------------------------------------------------------------------------------

SECRETIVE = """
[routero]
base_url = "https://gateway.example.com"
admin_key = "sk-very-secret-1"
[[scim.sources]]
name = "okta"
token = "idsync_very-secret-2"
"""


def test_secrets_in_the_file_are_refused_with_what_to_do_and_never_echoed(folder: Folder) -> None:
    found = folder.problems(SECRETIVE)
    assert set(found) == {"routero.admin_key", "scim.sources.okta.token"}
    assert "IDSYNC_ROUTERO__ADMIN_KEY" in found["routero.admin_key"]
    assert "idsync token new" in found["scim.sources.okta.token"]
    assert "very-secret" not in str(found)


def test_secrets_in_the_file_are_told_beside_other_mistakes(folder: Folder) -> None:
    found = folder.problems(SECRETIVE + "typo = 1\n")
    assert set(found) == {"routero.admin_key", "scim.sources.okta.token", "scim.sources.okta.typo"}


def test_secrets_may_come_from_the_environment_and_are_masked_wherever_they_are_shown(folder: Folder) -> None:
    environ = {"IDSYNC_ROUTERO__ADMIN_KEY": "sk-secret-1", "IDSYNC_SCIM__SOURCES__OKTA_PUSH__TOKEN": "idsync_secret-2"}
    loaded = folder.load(environ=environ)
    assert admin_key(loaded.config) == "sk-secret-1"
    rows = {key: (value, origin) for key, value, origin in shown(loaded)}
    assert rows["routero.admin_key"] == ("***", "environment IDSYNC_ROUTERO__ADMIN_KEY")
    token = ("***", "environment IDSYNC_SCIM__SOURCES__OKTA_PUSH__TOKEN")
    assert rows["scim.sources.okta-push.token"] == token
    times = ("scim.sources.okta-push.stale_after", "routero.cache_time", "policy.disabled_delete_after", "drill.every")
    assert [rows[key][0] for key in times] == ["7d", "60s", "0s", ""], "as a file would say it"
    assert not any("secret" in text for text in (str(rows), repr(loaded.config), str(loaded.config)))


def test_the_last_line_break_does_not_belong_to_a_secret(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-1\n")
    assert read_secret(str(tmp_path / "key")) == "sk-1"


@pytest.mark.parametrize(
    ("content", "said"), [(None, "cannot read the secret"), (b"  \n", "empty"), (b"\xff\xfe", "not text")]
)
def test_an_unusable_secret_file_is_an_error_that_does_not_echo_it(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        read_secret(str(path))


def test_a_rotated_admin_key_is_read_without_a_restart(folder: Folder, tmp_path: Path) -> None:
    key = tmp_path / "key"
    config = folder.config(environ={"IDSYNC_ROUTERO__ADMIN_KEY_FILE": str(key)})
    key.write_text("sk-old")
    assert admin_key(config) == "sk-old"
    key.write_text("sk-new")
    assert admin_key(config) == "sk-new"


# -- the environment ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["okta-push", "OKTA_PUSH", "OKTA-PUSH", "okta_push"])
def test_an_entry_of_a_list_is_named_in_the_environment_as_it_can_spell_it(folder: Folder, name: str) -> None:
    config = folder.config(environ={f"IDSYNC_SCIM__SOURCES__{name}__STRICT": "true"})
    assert config.scim.sources[0].strict is True


def test_a_team_is_named_by_its_alias_in_the_environment(folder: Folder) -> None:
    config = folder.config(environ={"IDSYNC_TEAMS__DATA_SCIENCE__MAX_BUDGET": "250.5"})
    assert config.teams[0].max_budget == 250.5


def test_the_environment_wins_over_the_file_and_the_file_over_the_defaults(folder: Folder) -> None:
    environ = {"IDSYNC_ROUTERO__BASE_URL": "https://other.example.com", "IDSYNC_SERVER__PORT": "9000"}
    loaded = folder.load(environ=environ)
    rows = {key: (value, origin) for key, value, origin in shown(loaded)}
    assert rows["routero.base_url"] == ("https://other.example.com", "environment IDSYNC_ROUTERO__BASE_URL")
    assert rows["server.port"] == ("9000", "environment IDSYNC_SERVER__PORT")
    assert rows["scim.sources.okta-push.idp"] == ("okta", "file")
    assert rows["teams.data-science.max_budget"] == ("100.0", "file")
    assert rows["policy.departed"] == ("any", "default")
    assert rows["scim.sources.okta-push.strict"] == ("false", "default")


def test_lists_are_written_in_the_environment_as_toml(folder: Folder) -> None:
    environ = {
        "IDSYNC_SERVER__HOST": "0.0.0.0",  # noqa: S104
        "IDSYNC_SERVER__TRUSTED_PROXIES": '["10.0.0.1", "10.1.0.0/16"]',
        "IDSYNC_TEAMS__DATA_SCIENCE__GROUPS": '["A", "B"]',
    }
    config = folder.config(environ=environ)
    assert config.server.trusted_proxies == ("10.0.0.1", "10.1.0.0/16")
    assert config.teams[0].groups == ("A", "B")


@pytest.mark.parametrize(
    ("name", "value", "path"),
    [
        ("IDSYNC_TEAMS__NOBODY__MAX_BUDGET", "1", "IDSYNC_TEAMS__NOBODY__MAX_BUDGET"),
        ("IDSYNC_TEAMS__DATA_SCIENCE", "1", "IDSYNC_TEAMS__DATA_SCIENCE"),
        ("IDSYNC_ROUTERO__BASE_URL__DEEP", "1", "IDSYNC_ROUTERO__BASE_URL__DEEP"),
        ("IDSYNC_ROUTERO__TYPO", "1", "routero.typo"),
        ("IDSYNC_TYPO", "1", "typo"),
        ("IDSYNC_SERVER__PORT", "many", "server.port"),
        ("IDSYNC_SERVER__TRUSTED_PROXIES", "[broken", "server.trusted_proxies"),
    ],
)
def test_a_mistake_in_the_environment_is_an_error_with_its_path(
    folder: Folder, name: str, value: str, path: str
) -> None:
    assert path in folder.problems(environ={name: value})


def test_other_variables_mean_nothing(folder: Folder) -> None:
    assert folder.config(environ={"PATH": "/bin", "IDSYNC": "x", "OTHER_IDSYNC_X": "1"}) == folder.config()


def test_the_environment_names_the_file_and_an_argument_beats_it(folder: Folder, tmp_path: Path) -> None:
    folder.path.write_text(BASE)
    other = tmp_path / "other.toml"
    other.write_text(BASE.replace("gateway.example.com", "second.example.com"))
    assert load(None, {"IDSYNC_CONFIG": str(other)}).config.routero.base_url == "https://second.example.com"
    found = load(str(folder.path), {"IDSYNC_CONFIG": str(other)})
    assert (found.path, found.config.routero.base_url) == (folder.path, "https://gateway.example.com")


def test_a_file_that_is_not_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: no such file"):
        load(str(tmp_path / "absent.toml"), {})
    with pytest.raises(ConfigError, match=r"absent\.toml: no such file"):
        load(None, {"IDSYNC_CONFIG": str(tmp_path / "absent.toml")})


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"a = [", "not valid TOML"), (b"a = '\xff'", "cannot be read"), (b"a = " + b"[" * 5000, "not valid TOML"),
     (b"[teams" + b".a" * 900 + b"]", "not valid TOML")],
)  # fmt: skip
def test_a_file_that_is_no_toml_is_an_error_that_names_it(folder: Folder, content: bytes, said: str) -> None:
    folder.path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(str(folder.path), {})
    [(path, what)] = caught.value.problems
    assert path == str(folder.path)
    assert what.startswith(said)


# -- addresses ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["http://127.0.0.1:4000", "http://localhost", "http://[::1]:4000", "https://a.example"])
def test_https_anywhere_and_http_on_loopback_are_fine(folder: Folder, url: str) -> None:
    assert folder.config(environ={"IDSYNC_ROUTERO__BASE_URL": url}).routero.base_url == url


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://gateway.example.com", "plain http"),
        ("http://127.0.0.1.example.com", "plain http"),
        ("http://10.0.0.1", "plain http"),
        ("http://0.0.0.0:4000", "plain http"),
        ("ftp://gateway.example.com", "http(s) address"),
        ("gateway.example.com", "http(s) address"),
        ("https://", "http(s) address"),
        ("https://me:pw@gateway.example.com", "user name or password"),
    ],
)
def test_an_address_that_would_show_the_admin_key_is_refused(folder: Folder, url: str, said: str) -> None:
    assert said in folder.problems(environ={"IDSYNC_ROUTERO__BASE_URL": url})["routero.base_url"]
    replicas = {"IDSYNC_ROUTERO__REPLICA_URLS": f'["https://ok.example", "{url}"]'}
    assert said in folder.problems(environ=replicas)["routero.replica_urls.1"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", ""])  # noqa: S104
def test_a_public_bind_without_a_trusted_proxy_is_refused(folder: Folder, host: str) -> None:
    assert "trusted_proxies" in folder.problems(environ={"IDSYNC_SERVER__HOST": host})["server.host"]
    folder.config(environ={"IDSYNC_SERVER__HOST": host, "IDSYNC_SERVER__TRUSTED_PROXIES": '["10.0.0.1"]'})


def test_a_public_bind_of_the_operations_port_is_refused_too(folder: Folder) -> None:
    assert "server.ops_host" in folder.problems(environ={"IDSYNC_SERVER__OPS_HOST": "0.0.0.0"})  # noqa: S104


# -- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ('[[scim.sources]]\nname = "okta-push"', "sources.okta-push"),
        (
            '[[sources.okta]]\nname = "okta-push"\norg_url = "https://a.okta.com"\napi_token_file = "t"',
            "sources.okta-push",
        ),
        ('[[teams]]\nalias = "data-science"\nid = "other"', "teams.data-science"),
        ('[[teams]]\nalias = "other"\nid = "data-science"', "teams (id).data-science"),
        ('[[roles]]\nrole = "internal_user"\n[[roles]]\nrole = "internal_user"', "roles.internal_user"),
    ],
)
def test_a_name_that_is_taken_twice_is_refused(folder: Folder, more: str, path: str) -> None:
    assert folder.problems(f"{BASE}\n{more}")[path] == "named twice"


@pytest.mark.parametrize("name", ["operator", "cli", "config", "idsync", "engine", "drill"])
def test_reserved_names_are_refused(folder: Folder, name: str) -> None:
    assert "reserved" in folder.problems(BASE.replace("okta-push", name))[f"scim.sources.{name}"]


def test_no_source_shows_the_directory_of_the_drill(folder: Folder) -> None:
    found = folder.problems(BASE.replace('idp = "okta"', 'idp = "drill"'))
    assert "reserved" in found["scim.sources.okta-push.idp"]


def test_the_directory_of_the_sso_ids_has_to_be_there(folder: Folder) -> None:
    assert "okta" in folder.problems(environ={"IDSYNC_ROUTERO__SSO_IDP": "hr"})["routero.sso_idp"]


@pytest.mark.parametrize(("more", "sso_idp"), [("", "okta"), ('\n[[scim.sources]]\nname = "entra"', None)])
def test_without_a_word_the_only_directory_has_the_sso_ids(folder: Folder, more: str, sso_idp: str | None) -> None:
    assert folder.config(BASE + more).sso_idp == sso_idp


@pytest.mark.parametrize(("text", "seconds"), [('""', 0.0), ('"0s"', 0.0), ('"24h"', 86400.0), ('"1m"', 60.0)])
def test_drills_are_held_by_themselves_only_where_it_says_how_often(folder: Folder, text: str, seconds: float) -> None:
    assert folder.config().drill.every == 0.0
    assert folder.config(f"{BASE}\n[drill]\nevery = {text}").drill.every == seconds


@pytest.mark.parametrize("name", ["okta push", "okta/push", "okta\\u0000", "okta:push"])
def test_a_source_name_is_of_plain_characters(folder: Folder, name: str) -> None:
    assert any("letters, digits" in what for what in folder.problems(BASE.replace("okta-push", name)).values())


@pytest.mark.parametrize("role", ["proxy_admin", "proxy_admin_viewer", "org_admin"])
def test_a_group_makes_an_administrator_only_in_so_many_words_and_the_default_never(folder: Folder, role: str) -> None:
    organization = BASE.replace("[routero]", '[routero]\norganization_id = "acme"')
    entry = f'{organization}\n[[roles]]\nrole = "{role}"\ngroups = ["A"]'
    assert "allow_admin = true" in folder.problems(entry)[f"roles.{role}"]
    assert "allow_admin = true" in folder.problems(f"{entry}\nallow_admin = false")[f"roles.{role}"]
    assert folder.load(f"{entry}\nallow_admin = true").config.roles[0].allow_admin
    assert (
        "nobody's by default" in folder.problems(environ={"IDSYNC_POLICY__DEFAULT_ROLE": role})["policy.default_role"]
    )


def roles(*entries: tuple[str, str]) -> str:
    return BASE + "".join(f'\n[[roles]]\nrole = "{role}"\ngroups = [{groups}]' for role, groups in entries)


@pytest.mark.parametrize(
    ("text", "path", "said"),
    [
        (roles(("internal_viwer", '"A"')), "roles.internal_viwer", "did you mean internal_viewer?"),
        (roles(("Proxy-Admin", '"A"')), "roles.Proxy-Admin", "did you mean proxy_admin?"),
        (roles(("finance", '"A"')), "roles.finance", "there are: internal_user, "),
        (BASE + '\n[policy]\ndefault_role = "internl_user"', "policy.default_role", "did you mean internal_user?"),
        (
            roles(("internal_viewer", '"A", "B"'), ("internal_user", '"C", "B"')),
            "roles.internal_user.groups",
            "'B' gives internal_viewer already",
        ),
        (
            roles(("internal_viewer", '"okta-push/B"'), ("internal_user", '"B"')),
            "roles.internal_user.groups",
            "'B' gives internal_viewer already",
        ),
        (
            roles(("internal_viewer", '"A"'), ("internal_user_viewer", '"B"')),
            "roles.internal_user_viewer",
            "the same role as internal_viewer",
        ),
        (roles(("org_admin", '"A"')) + "\nallow_admin = true", "roles.org_admin", "set routero.organization_id"),
    ],
)
def test_a_role_that_is_none_or_that_another_entry_gives_as_well_is_one_clear_line(
    folder: Folder, text: str, path: str, said: str
) -> None:
    found = folder.problems(text)
    assert (list(found), said in found[path]) == ([path], True)


def test_groups_of_one_name_in_two_sources_are_two_groups(folder: Folder) -> None:
    second = BASE + '[[scim.sources]]\nname = "entra"\n'
    entries = '[[roles]]\nrole = "internal_viewer"\ngroups = ["entra/B"]\n[[roles]]\nrole = "internal_user"\n'
    assert folder.load(f'{second}{entries}groups = ["okta-push/B"]').config.roles[1].groups == ("okta-push/B",)


OKTA = """
[[sources.okta]]
name = "okta-poll"
idp = "okta"
org_url = "https://a.okta.com"
client_id = "0oa"
private_key_file = "key.pem"
"""
GRAPH = """
[[sources.graph]]
name = "entra"
tenant_id = "t"
client_id = "c"
client_secret_file = "secret"
"""


@pytest.mark.parametrize(
    ("text", "path", "told"),
    [
        (OKTA.replace('private_key_file = "key.pem"', ""), "sources.okta.okta-poll", "give one credential"),
        (OKTA + 'api_token_file = "t"', "sources.okta.okta-poll", "not private_key and api_token"),
        (OKTA.replace('client_id = "0oa"', ""), "sources.okta.okta-poll.client_id", "missing"),
        (OKTA.replace('org_url = "https://a.okta.com"', ""), "sources.okta.okta-poll.org_url", "missing"),
        (OKTA.replace("https:", "http:"), "sources.okta.okta-poll.org_url", "plain http"),
        (OKTA + 'every = "1s"', "sources.okta.okta-poll.every", "at least 10s"),
        (OKTA + 'log_every = "1s"', "sources.okta.okta-poll.log_every", "at least 10s"),
        (OKTA + 'full_every = "8d"', "sources.okta.okta-poll.full_every", "6d"),
        (OKTA + 'private_key = "-----BEGIN"', "sources.okta.okta-poll.private_key", "a secret; use private_key_file"),
        (OKTA + 'api_token = "00x"', "sources.okta.okta-poll.api_token", "a secret; use api_token_file"),
        (GRAPH.replace('tenant_id = "t"', ""), "sources.graph.entra.tenant_id", "missing"),
        (GRAPH + "managed_identity = true", "sources.graph.entra", "give one credential"),
        (GRAPH + 'graph_url = "http://graph.example.com"', "sources.graph.entra.graph_url", "plain http"),
        (GRAPH + 'client_secret = "x"', "sources.graph.entra.client_secret", "a secret; use client_secret_file"),
    ],
)
def test_a_polled_source_that_cannot_work_is_told_before_it_is_asked(
    folder: Folder, text: str, path: str, told: str
) -> None:
    assert told in folder.problems(f"{BASE}\n{text}")[path]


def test_polled_sources_have_the_paces_and_addresses_of_the_contract(folder: Folder) -> None:
    found = folder.config(f"{BASE}\n{OKTA}\n{GRAPH}")
    assert found.polled == {"okta-poll": "okta", "entra": "graph"}
    (okta,), (graph,) = found.sources.okta, found.sources.graph
    assert (okta.every, okta.full_every, okta.directory) == (300.0, 86400.0, "okta")
    assert (graph.authority, graph.graph_url) == ("https://login.microsoftonline.com", "https://graph.microsoft.com")


@pytest.mark.parametrize(
    ("table", "path"),
    [
        ('[[teams]]\nalias = "b"\non_member_departure = "delete"', "teams.b.on_member_departure"),
        ('[[teams]]\nalias = "b"\nextra_members = "drop"', "teams.b.extra_members"),
        ('[[teams]]\nalias = "b"\nextra_members = "remove"', "teams.b.extra_members"),
        ('[[teams]]\nalias = "b"\nbudget_duration = "1 month"', "teams.b.budget_duration"),
        ('[[teams]]\nalias = "b"\nbudget_duration = "monthly"', "teams.b.budget_duration"),
        ('[[teams]]\nalias = "b"\nbudget_duration = "0d"', "teams.b.budget_duration"),
        ('[[teams]]\nalias = "b"\nmax_budget = "lots"', "teams.b.max_budget"),
        ('[[teams]]\nalias = "b"\nmax_budget = 100\nsoft_budget = 100', "teams.b.soft_budget"),
        ('[[teams]]\nalias = "b"\ntpm_limit = 1.5', "teams.b.tpm_limit"),
        ('[[teams]]\nalias = "b"\nrpm_limit = -1', "teams.b.rpm_limit"),
        ('[[teams]]\nalias = "b"\nmetadata = { idsync = "mine" }', "teams.b.metadata.idsync"),
        ('[[teams]]\nalias = "b"\ndrift = "ignore"', "teams.b.drift"),
        ('[[teams]]\nalias = "data-science"', "teams.data-science"),
        ('[[protected]]\nmatch = "a"\nreason = ""', "protected.a.reason"),
        ('[[protected]]\nmatch = ""\nreason = "x"', "protected.0.match"),
        ("[guard]\nmax_push_departures = 0", "guard.max_push_departures"),
        ("[server]\ntrusted_proxies = ['nowhere']", "server.trusted_proxies"),
        ('[drill]\nevery = "59s"', "drill.every"),
        ('[drill]\nevery = "daily"', "drill.every"),
    ],
)
def test_a_setting_that_would_not_be_kept_is_refused(folder: Folder, table: str, path: str) -> None:
    assert path in folder.problems(f"{BASE}\n{table}")


@pytest.mark.parametrize(
    ("text", "seconds"), [('"0s"', 0.0), ('"500ms"', 0.5), ('"2h"', 7200.0), ("30", 30.0), ('"30"', 30.0), ("0.5", 0.5)]
)
def test_durations_are_texts_with_a_unit_or_seconds(folder: Folder, text: str, seconds: float) -> None:
    config = folder.config(f"{BASE}\n[policy]\ngroup_loss_delete_after = {text}")
    assert config.policy.group_loss_delete_after == seconds


@pytest.mark.parametrize("text", ['"-1s"', "-1", '"1w"', '""', "nan", "[1]"])
def test_what_is_no_duration_is_refused(folder: Folder, text: str) -> None:
    found = folder.problems(f"{BASE}\n[policy]\ngroup_loss_delete_after = {text}")
    assert set(found) == {"policy.group_loss_delete_after"}


@pytest.mark.parametrize(
    ("table", "path"),
    [
        ("[policy]\ngroup_loss_delete_after = inf", "policy.group_loss_delete_after"),
        ("[[teams]]\nalias='b'\nmax_budget = inf", "teams.b.max_budget"),
    ],
)
def test_infinity_is_refused(folder: Folder, table: str, path: str) -> None:
    assert path in folder.problems(f"{BASE}\n{table}")


# -- shapes nobody meant ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "scim = 5",
        "routero = 'x'",
        "teams = 3",
        "teams = ['a']",
        "teams = [{alias = 5}]",
        "[[scim.sources]]\nname = ['a']",
        "[scim]\nsources = {name = 'a'}",
        "[[teams]]\nalias = 'a'\nmodels = 'gpt'",
        "[[protected]]\nmatch = 'a'\nreason = 'b'\nexpires = 'soon'",
    ],
)
def test_a_value_of_another_shape_is_an_error_of_the_configuration(folder: Folder, text: str) -> None:
    assert folder.problems(text, {"IDSYNC_ROUTERO__BASE_URL": "https://gateway.example.com"})


@pytest.mark.parametrize("text", ["[scim]\nsources = 5", '[routero]\nbase_url = "http://[::1"'])
def test_a_value_that_cannot_even_be_read_is_an_error_of_the_configuration(folder: Folder, text: str) -> None:
    assert folder.problems(text)


# -- what the whole means -----------------------------------------------------------------------------------------


def test_email_is_trusted_by_default_only_while_there_is_one_directory(folder: Folder) -> None:
    one = folder.config(f'{BASE}\n[[scim.sources]]\nname = "okta-2"\nidp = "okta"')
    assert [one.trusts_email(source) for source in one.scim.sources] == [True, True]
    two = folder.config(f'{BASE}\n[[scim.sources]]\nname = "entra"')
    assert [two.trusts_email(source) for source in two.scim.sources] == [False, False]
    said = folder.config(f'{BASE}\n[[scim.sources]]\nname = "entra"\ntrust_email = true')
    assert [said.trusts_email(source) for source in said.scim.sources] == [False, True]


def test_unconfigured_means_that_the_daemon_does_not_start(folder: Folder) -> None:
    config = folder.config('[routero]\nbase_url = "https://gateway.example.com"')
    assert {path for path, _ in start_problems(config)} == {"routero.admin_key_file", "sources"}


def test_everything_that_keeps_it_from_starting_is_told_at_once(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    environ = {
        "IDSYNC_ROUTERO__ADMIN_KEY_FILE": str(tmp_path / "absent"),
        "IDSYNC_SCIM__SOURCES__OKTA_PUSH__TOKEN_FILE": str(tmp_path / "empty"),
        "IDSYNC_HTTP__CA_FILE": str(tmp_path / "ca.pem"),
    }
    found = start_problems(folder.config(environ=environ))
    assert [path for path, _ in found] == [
        "routero.admin_key_file",
        "scim.sources.okta-push.token_file",
        "http.ca_file",
    ]


def test_a_complete_configuration_has_nothing_that_keeps_it_from_starting(folder: Folder) -> None:
    assert start_problems(folder.config(environ={"IDSYNC_ROUTERO__ADMIN_KEY": "sk-1"})) == []
