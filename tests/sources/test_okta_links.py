"""Link headers of all shapes: the next page is found wherever it stands, and what cannot be read is no end."""

from __future__ import annotations

import pytest

from idsync.errors import IncompleteSource
from idsync.sources.okta.records import next_link
from idsync.sources.pager import Answer

SELF, NEXT = "https://acme.okta.com/api/v1/users?limit=2", "https://acme.okta.com/api/v1/users?after=a%2Cb;c&limit=2"

FOUND = {
    f'<{SELF}>; rel="self", <{NEXT}>; rel="next"': NEXT,
    f'<{NEXT}>; rel="next", <{SELF}>; rel="self"': NEXT,
    f'<{NEXT}>; rel="next",<{SELF}>; rel="last"': NEXT,
    f"<{NEXT}>;rel=next": NEXT,
    f'<{NEXT}>; title="more, next"; rel="prefetch next"': NEXT,
    f'<{NEXT}>; REL = "Next"': NEXT,
    f'<{NEXT}>; rel="next", <{NEXT}>; rel="next"': NEXT,
    f'<{SELF}>; rel="self"': None,
    f'<{NEXT}&next=1>; rel="self"': None,
    "": None,
}
UNREADABLE = [
    f'<{NEXT}>; rel="next", <{SELF}>; rel="next"',
    f'{NEXT}; rel="next"',
    f'<{NEXT}; rel="next"',
    f'<{SELF}>; rel="self", rel="next"',
    f'<{NEXT}> rel="next"',
]


@pytest.mark.parametrize("header", FOUND)
def test_the_next_page(header: str) -> None:
    assert next_link(Answer(200, {"Link": header}, b"[]", 0.0), "users") == FOUND[header]


@pytest.mark.parametrize("header", UNREADABLE)
def test_a_next_page_that_cannot_be_read(header: str) -> None:
    with pytest.raises(IncompleteSource):
        next_link(Answer(200, {"Link": header}, b"[]", 0.0), "users")
