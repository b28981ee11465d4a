"""Where the experiments begin."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .agreement import agree
from .pair import Pair, pair
from .requests import START


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Both sides with the same records in them, for the tests of one file."""
    with pair(tmp_path_factory.mktemp("both")) as made:
        for ask in START:
            assert agree(made, ask).status == 201
        made.begin_here()
        yield made
