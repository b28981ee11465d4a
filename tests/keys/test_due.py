"""What is due for a shared key: the table of `due.py`, row by row, and what the configuration refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from idsync import config
from idsync.clock import rfc3339
from idsync.errors import ConfigError
from idsync.keys.due import AT_ONCE, Leaver, Sight, WantedKey, plan_key, plan_keys
from idsync.model import GatewayKey
from idsync.store.teamkeys import Ending, TeamKey

NOW = 1_800_000_000.0
DAY = 86400.0
WANTED = WantedKey("ds-prod", "data", "files", 90 * DAY, 14 * DAY, models=("a", "b"), max_budget=100.0)
KNOWN = TeamKey("ds-prod", "data", "k1", "files", made_at=NOW - 10 * DAY)
SHOWN = GatewayKey(
    "k1", alias="ds-prod", team_id="t-data", models=("b", "a"), max_budget=100.0, expires=rfc3339(NOW + 80 * DAY)
)
THEIRS = GatewayKey("k9", alias="ds-prod", team_id="t-data")
LEO = Leaver("p1", "leo@example.com", NOW - 1)
ASKED = replace(KNOWN, asked_at=NOW, asked_by="ops")
RESTING = Sight(WANTED, "t-data", KNOWN, SHOWN)
NONE = Sight(WANTED, "t-data")


def expiring(seconds: float | None) -> Sight:
    return replace(RESTING, shown=replace(SHOWN, expires=None if seconds is None else rfc3339(NOW + seconds)))


CASES: dict[str, tuple[Sight, str | None, str, bool]] = {
    "all is well": (RESTING, None, "", False),
    "none": (NONE, "key.make", "the configuration names it", False),
    "none, no team yet": (replace(NONE, team_id=None), "key.make", "the configuration names it", False),
    "gone": (replace(RESTING, shown=None), "key.make", "does not have it any more", False),
    "somebody else's": (replace(NONE, namesakes=[THEIRS]), "key.refused", "set adopt = true", False),
    "a person's": (replace(NONE, namesakes=[replace(THEIRS, user_id="u1")]), "key.refused", "of u1", False),
    "another team's": (replace(NONE, namesakes=[replace(THEIRS, team_id="x")]), "key.refused", "in team x", False),
    "ours of an older store": (replace(NONE, namesakes=[replace(THEIRS, managed=True)]), "key.adopt", "earlier", False),
    "expires just later": (expiring(14 * DAY + 1), None, "", False),
    "expires": (expiring(14 * DAY), "key.rotate", "expires in 14 days", False),
    "expires today": (expiring(5 * 3600), "key.rotate", "expires in 5 h", False),
    "expired": (expiring(-1), "key.rotate", "it has expired", False),
    "never expires": (expiring(None), "key.rotate", "it never expires", False),
    "an expiry nobody can read": (replace(RESTING, shown=replace(SHOWN, expires="soon")), None, "", False),
    "a leaver": (replace(RESTING, leavers=[LEO, LEO]), "key.rotate", "leo@example.com left", True),
    "asked for": (replace(RESTING, known=ASKED), "key.rotate", "asked for by ops", False),
    "asked for, and a leaver": (replace(RESTING, known=ASKED, leavers=[LEO]), "key.rotate", "left", True),
    "compromised": (replace(RESTING, known=replace(ASKED, compromised=True)), "key.rotate", "says ops", True),
    "of another team": (replace(RESTING, team_id="t-new"), "key.rotate", "is to be in t-new", False),
    "in another sink": (replace(RESTING, known=replace(KNOWN, sink="old")), "key.rotate", "it is in sink old", False),
    "not confirmed": (replace(RESTING, doubtful=True), "key.rotate", "nobody knows", False),
    "taken over, in none": (replace(RESTING, known=replace(KNOWN, sink=None)), None, "", False),
    "other models": (replace(RESTING, shown=replace(SHOWN, models=("c",))), "key.update", "models", False),
    "no budget": (replace(RESTING, shown=replace(SHOWN, max_budget=None)), "key.update", "max_budget", False),
    "called otherwise": (replace(RESTING, shown=replace(SHOWN, alias="ds-prod.1")), "key.update", "alias", False),
    "the old one has its name": (
        replace(RESTING, shown=replace(SHOWN, alias="ds-prod.1"), namesakes=[THEIRS]),
        None,
        "",
        False,
    ),
    "it keeps its name": (
        replace(RESTING, shown=replace(SHOWN, alias="ds-prod.1"), known=replace(KNOWN, name="ds-prod.1")),
        None,
        "",
        False,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_due(case: str) -> None:
    sight, kind, why, at_once = CASES[case]
    changes = plan_key(sight, NOW)
    assert [change.kind for change in changes] == ([kind] if kind else [])
    assert all(why in change.why for change in changes)
    assert [bool(change.fields.get(AT_ONCE)) for change in changes] == [at_once] * len(changes)


def test_a_replaced_key_is_due_when_its_grace_is_over() -> None:
    ending = [Ending("k0", "ds-prod", "replaced", NOW + left) for left in (0.0, 1.0)]
    assert [(one.kind, one.target) for one in plan_keys([RESTING], ending, NOW)] == [("key.end", "k0")]


BASE = """
[routero]
base_url = "https://gateway.example.com"
[[scim.sources]]
name = "okta"
[[sinks]]
name = "files"
kind = "file"
path = "/run/keys/{alias}"
[[teams]]
alias = "data"
models = ["smart/balanced"]
[[teams.keys]]
alias = "ds-prod"
"""
WRONG: list[tuple[str, dict[str, Any]]] = [
    ('sink = "vault"', {"sink": "there is no [[sinks]] of the name 'vault' (there are: files)"}),
    ('sink = "files"\nrotate_before = "90d"', {"rotate_before": "has to be shorter than duration"}),
    ('sink = "files"\ngrace = "15d"', {"grace": "longer than rotate_before"}),
    ('sink = "files"\nmodels = ["gpt-5-mini"]', {"models": "the team may not call gpt-5-mini"}),
    (
        'sink = "one"\n[[sinks]]\nname = "one"\nkind = "file"\npath = "/run/key"\n[[teams]]\nalias = "web"\n'
        '[[teams.keys]]\nalias = "web-prod"\nsink = "one"',
        {"sink": "ds-prod has the same place in sink one"},
    ),
    ('sink = "files"\n[[teams.keys]]\nalias = "ds-prod"\nsink = "files"', {"": "named twice"}),
]


@pytest.mark.parametrize(
    ("wrong", "said"), WRONG, ids=lambda value: next(iter(value)) if isinstance(value, dict) else ""
)
def test_what_the_configuration_refuses(tmp_path: Path, wrong: str, said: dict[str, str]) -> None:
    file = tmp_path / "config.toml"
    file.write_text(BASE + wrong)
    with pytest.raises(ConfigError) as caught:
        config.load(str(file), {})
    ((path, what),) = caught.value.problems
    (name,) = said
    assert path in (f"teams.{key}{'.' if name else ''}{name}" for key in ("data.keys.ds-prod", "web.keys.web-prod"))
    assert what.startswith(said[name])


def test_a_setting_of_a_key_may_come_from_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(BASE + 'sink = "files"\n')
    loaded = config.load(str(file), {"IDSYNC_TEAMS__DATA__KEYS__DS_PROD__GRACE": "10m"})
    assert loaded.config.teams[0].keys[0].grace == 600.0
    shown = {key: origin for key, _, origin in config.shown(loaded)}
    assert shown["teams.data.keys.ds-prod.grace"] == "environment IDSYNC_TEAMS__DATA__KEYS__DS_PROD__GRACE"
