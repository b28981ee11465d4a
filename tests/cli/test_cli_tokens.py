"""Tokens: shown once, kept as a SHA-256, two a source at a time."""

from __future__ import annotations

import hashlib
import json
import re

import pytest

from .site import Site


def on_disk(site: Site) -> bytes:
    """Return every byte beside the store: the file, its log, whatever else."""
    return b"".join(file.read_bytes() for file in site.folder.glob("idsync.db*") if file.is_file())


@pytest.mark.needs_file("reads every byte of it")
def test_new_prints_the_token_alone_on_stdout_and_keeps_only_its_digest(site: Site) -> None:
    done = site.run("token", "new", "okta")
    assert done.returncode == 0
    assert re.fullmatch(r"idsync_[A-Za-z0-9_-]{43}\n", done.stdout)
    secret = done.stdout.strip()
    assert secret not in done.stderr
    assert "it is not shown again" in done.stderr
    assert secret.encode() not in on_disk(site)
    assert secret.removeprefix("idsync_").encode() not in on_disk(site)
    assert hashlib.sha256(secret.encode()).hexdigest().encode() in on_disk(site)


def test_two_tokens_of_a_source_may_live_and_a_third_is_refused_until_one_is_revoked(site: Site) -> None:
    oldest, _ = site.new_tokens("okta", "okta")
    third = site.run("token", "new", "okta")
    assert (third.returncode, third.stdout) == (2, "")
    assert f"idsync token revoke {oldest['id']}" in third.stderr
    assert site.run("token", "revoke", oldest["id"]).returncode == 0
    site.token()
    assert [token["state"] for token in site.json("token", "list")] == ["revoked", "live", "live"]
    again = site.run("token", "revoke", oldest["id"])
    assert (again.returncode, "there is no live token" in again.stderr) == (1, True)


def test_the_list_shows_who_and_when_and_no_secret(site: Site) -> None:
    [made] = site.new_tokens("okta")
    secrets = [made["token"], site.token("--operator", "ada", "--scope", "approve")]
    listed = site.json("token", "list")
    assert [(token["kind"], token["name"], token["state"]) for token in listed] == [
        ("source", "okta", "live"),
        ("operator", "ada", "live"),
    ]
    assert {key for token in listed for key in token} == {
        *("id", "kind", "name", "scope"),
        *("created", "used", "expires", "state"),
    }
    text = json.dumps(listed) + site.run("token", "list").stdout
    assert not any(secret in text for secret in secrets)
    assert not any(hashlib.sha256(secret.encode()).hexdigest() in text for secret in secrets)


def test_making_a_token_is_in_the_trail_without_the_secret(site: Site) -> None:
    secret = site.token()
    done = site.run("audit", "tail", "--json")
    [entry] = [json.loads(line) for line in done.stdout.splitlines()]
    assert (entry["action"], entry["subject"], entry["actor"].startswith("cli/")) == ("token.made", "okta", True)
    assert secret not in done.stdout


def test_a_token_with_an_end_says_so_and_makes_room_when_it_has_ended(site: Site) -> None:
    site.token("--operator", "ada", "--expires", "90d")
    done = site.run("token", "new", "--operator", "ada", "--expires", "1ms")
    assert (done.returncode, "it ends at 20" in done.stderr) == (0, True)
    site.token("--operator", "ada")
    listed = site.json("token", "list")
    assert [(one["state"], one["expires"] is None) for one in listed] == [
        ("live", False),
        ("expired", False),
        ("live", True),
    ]
    for wrong in ("0s", "soon", "-1d", "99999d"):
        refused = site.run("token", "new", "--operator", "bob", "--expires", wrong)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert "--expires" in refused.stderr
