"""`make release`: builds a release twice, compares, and writes what a careful user wants to see beside it.

    python tools/release.py            the tag vX.Y.Z stands on this commit and nothing is uncommitted
    python tools/release.py --trial    the same work without a tag, to see whether it would do

The version stands in idsync/__init__.py alone, so that an installation without .git (an image, an unpacked archive) has
it too; the tag has to say the same. Into dist/: wheel and sdist, sbom.cdx.json (CycloneDX 1.6, of what a user installs),
licences.md, audit.json (known vulnerabilities of the locked dependencies, unless the index cannot be asked), the man
page, and SHA256SUMS over all of them. Run by the release environment, see requirements/release.lock.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
PLACES = (
    ("deploy/helm/idsync/Chart.yaml", r"^version: (\S+)$"),
    ("deploy/helm/idsync/Chart.yaml", r'^appVersion: "(\S+)"$'),
    ("deploy/compose.yaml", r"image: idsync:(\S+)"),
    ("deploy/compose.sandbox.yaml", r"image: idsync:(\S+)"),
    ("Dockerfile", r"docker build -t idsync:(\S+)"),
    ("CHANGELOG.md", r"^## \[(\d\S*)\]"),
)
"""Where else the version stands; each has to name the one that is released."""
COPYLEFT = re.compile(r"\b(A?GPL|SSPL|BUSL)\b|Affero|(?<!Lesser )General Public License")


class NotReleasable(Exception):
    """What keeps this from being a release."""


def version() -> str:
    found = re.search(r'__version__ = "([^"]+)"', (ROOT / "idsync/__init__.py").read_text("utf-8"))
    if found is None:
        raise NotReleasable("idsync/__init__.py has no __version__")
    return found[1]


def run(*line: str | Path, **more: str) -> str:
    done = subprocess.run(
        list(map(str, line)), cwd=ROOT, env={**os.environ, **more}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise NotReleasable(f"{' '.join(map(str, line))}\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def disagreements(wanted: str) -> Iterator[str]:
    """Yield what speaks of another version, or keeps the tree from being exactly the tag's."""
    for name, pattern in PLACES:
        found = re.search(pattern, (ROOT / name).read_text("utf-8"), re.MULTILINE)
        if found is None or found[1] != wanted:
            yield f"{name} says {found[1] if found else 'nothing'}, the package {wanted}"
    if run("git", "status", "--porcelain"):
        yield "the tree has uncommitted changes"
    if f"v{wanted}" not in run("git", "tag", "--points-at", "HEAD").split():
        yield f"the tag v{wanted} is not on this commit"


def built(folder: Path, epoch: str) -> dict[str, str]:
    """Build wheel and sdist; return name and SHA-256 of each."""
    run(sys.executable, "-m", "hatchling", "build", "-d", folder, SOURCE_DATE_EPOCH=epoch)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def build_twice() -> dict[str, str]:
    epoch = run("git", "log", "-1", "--format=%ct")
    with tempfile.TemporaryDirectory() as other:
        first, second = built(DIST, epoch), built(Path(other), epoch)
    if first != second:
        raise NotReleasable(f"two builds differ: {first} and {second}")
    return first


def installed(folder: Path) -> Path:
    """Install the locked dependencies and the wheel as a user would; return that Python."""
    venv.create(folder, with_pip=True)
    python = folder / "bin/python"
    pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    run(*pip, "--require-hashes", "-r", "requirements/runtime.lock")
    run(*pip, "--no-deps", "--no-index", next(DIST.glob("*.whl")))
    if run(folder / "bin/idsync", "--version") != f"idsync, version {version()}":
        raise NotReleasable("what was installed says another version")
    run(python, "-m", "pip", "uninstall", "--quiet", "--yes", "pip", "setuptools")
    return python


def bill_of_materials(python: Path) -> int:
    target = DIST / "sbom.cdx.json"
    options = ("--output-reproducible", "--spec-version", "1.6", "--output-format", "JSON", "--validate")
    run(sys.executable, "-m", "cyclonedx_py", "environment", *options, "--output-file", target, python)
    return len(json.loads(target.read_text("utf-8"))["components"])


def licences(python: Path) -> int:
    """List the licence of everything that is installed with idsync; one that would bind users' own code is refused."""
    target, tool = DIST / "licences.md", (sys.executable, "-m", "piplicenses", f"--python={python}")
    columns = ("--from=mixed", "--with-urls", "--order=name")
    rows = json.loads(run(*tool, *columns, "--format=json"))
    bad = [f"{row['Name']} ({row['License']})" for row in rows if COPYLEFT.search(row["License"])]
    if bad:
        raise NotReleasable(f"licences that bind whoever passes it on: {', '.join(bad)}")
    target.write_text(run(*tool, *columns, "--format=markdown") + "\n", "utf-8")
    return len(rows)


def audit() -> str:
    """Ask for known vulnerabilities of the locked dependencies."""
    lock, target = "requirements/runtime.lock", DIST / "audit.json"
    line = (sys.executable, "-m", "pip_audit", "--requirement", lock, "--require-hashes", "--disable-pip")
    done = subprocess.run(
        [*line, "--format", "json", "--output", target, "--progress-spinner", "off"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if target.exists():
        asked = json.loads(target.read_text("utf-8"))["dependencies"]
        found = [entry for entry in asked if entry.get("vulns")]
        skipped = [entry["skip_reason"] for entry in asked if "skip_reason" in entry]
        if found:
            told = [f"{entry['name']} {entry['version']}: {entry['vulns'][0]['id']}" for entry in found]
            raise NotReleasable(f"known vulnerabilities: {'; '.join(told)}")
        if skipped:
            return f"NOT ASKED for {len(skipped)} of {len(asked)}: {skipped[0]}"
        return f"none known in {len(asked)} packages"
    last = (done.stderr.strip().splitlines() or ["no answer"])[-1]
    return f"NOT ASKED ({last})"


def main(arguments: list[str]) -> int:
    shutil.rmtree(DIST, ignore_errors=True)
    try:
        problems = list(disagreements(version()))
        if problems and "--trial" not in arguments:
            raise NotReleasable("\n".join(problems))
        for problem in problems:
            print(f"a release would be refused: {problem}")
        sums = build_twice()
        with tempfile.TemporaryDirectory() as folder:
            python = installed(Path(folder) / "user")
            print(f"built twice, alike: {', '.join(sums)}")
            print(f"sbom.cdx.json: {bill_of_materials(python)} components; licences.md: {licences(python)} packages")
            run(python, "tools/man_page.py", DIST / "man/idsync.1")
        print(f"vulnerabilities: {audit()}")
    except NotReleasable as error:
        print(f"no release: {error}", file=sys.stderr)
        return 1
    listed = sorted(path for path in DIST.rglob("*") if path.is_file())
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(DIST)}\n" for path in listed]
    (DIST / "SHA256SUMS").write_text("".join(lines), "utf-8")
    print("".join(lines), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
