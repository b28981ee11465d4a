"""`idsync sinks check` and `test`, `config check --start` and `doctor`: a sink is tried by hand without a real key."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.daemon import Done, idsync
from support.settings import write_settings

NOBODY = "http://127.0.0.1:9"


class Place:
    """Two sinks: `files`, for each key its own file, and `one`, the same file for all."""

    def __init__(self, folder: Path) -> None:
        self.keys = folder / "keys"
        self.keys.mkdir(mode=0o700)
        files = {"name": "files", "kind": "file", "path": f"{self.keys}/{{alias}}"}
        one = {"name": "one", "kind": "file", "path": f"{self.keys}/one"}
        self.settings = write_settings(folder, NOBODY, sinks=[files, one])

    def run(self, *words: str) -> Done:
        return idsync(self.settings, *words)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_test_delivers_what_is_no_key_where_a_key_would_be(place: Place) -> None:
    done = place.run("sinks", "test", "files", "--json")
    assert done.code == 0, done.err
    arrived = place.keys / "idsync-sink-test"
    value = done.json["value"]
    assert value.startswith("idsync-canary-not-a-key-")
    assert arrived.read_text() == value
    assert done.json == {"name": "files", "kind": "file", "place": f"file {arrived}", "value": value}


def test_a_test_never_replaces_a_key_unless_it_is_told_to(place: Place) -> None:
    (place.keys / "one").write_text("a-real-key")
    refused = place.run("sinks", "test", "one")
    assert (refused.code, (place.keys / "one").read_text()) == (2, "a-real-key")
    assert "would replace what is there" in refused.err
    done = place.run("sinks", "test", "one", "--overwrite")
    assert done.code == 0, done.err
    assert (place.keys / "one").read_text() in done.out


def test_a_sink_that_would_not_take_a_key_is_found_by_every_command_that_looks(place: Place) -> None:
    well = place.run("sinks", "check", "--json")
    assert well.json == [{"name": name, "kind": "file", "ok": True, "problems": []} for name in ("files", "one")]
    assert (well.code, list(place.keys.iterdir())) == (0, [])
    place.keys.chmod(0o777)
    says = f"others may write {place.keys} (mode 0777); chmod go-w {place.keys}"
    told = {
        ("sinks", "check", "one"): f"WRONG  one            file: {says}",
        ("sinks", "test", "files"): f"idsync: {says}",
        ("config", "check", "--start"): f"  sinks.files: {says}",
        ("doctor",): f"WRONG  sink           files: {says}",
    }
    for words, line in told.items():
        done = place.run(*words)
        assert done.code == (2 if words[0] == "config" else 1)
        assert line in (done.out + done.err).splitlines()
    assert list(place.keys.iterdir()) == []


@pytest.mark.parametrize("command", ["check", "test"])
def test_a_sink_that_is_not_there_is_told_of_with_those_that_are(place: Place, command: str) -> None:
    done = place.run("sinks", command, "vault")
    assert done.code == 1
    assert "no sink is called 'vault' (there are: files, one)" in done.err
