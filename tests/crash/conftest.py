from __future__ import annotations

import pytest
from support.fixtures import _sandboxes, dialect, gateway, opened

from crash.size import CRASH

__all__ = ["_sandboxes", "dialect", "gateway", "opened"]


@pytest.fixture(autouse=True)
def _seed(request: pytest.FixtureRequest) -> None:
    """Say with every failure how it is repeated."""
    request.node.add_report_section("setup", "dice", CRASH.replay)


FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> list[str]:
    """What a test has counted; shown when all is done."""
    return request.config.stash.setdefault(FIGURES, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash.get(FIGURES, []):
        terminalreporter.write_line(line)
