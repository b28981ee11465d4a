"""One call as a handler sees it, and pages with their links."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote, urlencode

from idsync.sandbox.idp.jsontext import array
from idsync.sandbox.idp.shelf import Shelf
from idsync.sandbox.okta.acts import Acts
from idsync.sandbox.okta.state import App, Group, Org, User
from idsync.sandbox.okta.tokens import refused
from idsync.sandbox.replies import Headers, Refusal, Reply
from idsync.sandbox.wire import Request

if TYPE_CHECKING:
    from idsync.sandbox.okta.service import OktaSettings

T = TypeVar("T")
TYPE = "application/json;charset=UTF-8"


@dataclass(slots=True)
class Call:
    org: Org
    acts: Acts
    request: Request
    base: str
    params: Mapping[str, str]
    visible: frozenset[str] | None  # ids of the groups the admin role covers
    settings: OktaSettings

    @property
    def query(self) -> dict[str, str]:
        return self.request.query

    @property
    def omit(self) -> str:
        """What the media type asks to leave out of users."""
        return self.request.headers.get("content-type", "").partition("okta-response=")[2]

    # what lies outside of the role does not exist for the caller, or is refused

    def sees(self, user: User) -> bool:
        return self.visible is None or any(group_id in self.visible for group_id in user.groups)

    def sees_group(self, group: Group) -> bool:
        return self.visible is None or group.id in self.visible

    def user(self) -> User:
        ref = self.params["id"]
        user = self.org.find_user(ref)
        if user is None:
            raise missing(ref, "User")
        if not self.sees(user):
            raise self._outside(ref, "User")
        return user

    def group(self) -> Group:
        ref = self.params["id"]
        group = self.org.groups.get(ref)
        if group is None:
            raise missing(ref, "UserGroup")
        if not self.sees_group(group):
            raise self._outside(ref, "UserGroup")
        return group

    def app(self) -> App:
        ref = self.params["id"]
        app = self.org.apps.get(ref)
        if app is None:
            raise missing(ref, "AppInstance")
        return app

    def _outside(self, ref: str, kind: str) -> Refusal:
        if self.settings.narrowed_status == 404:
            return missing(ref, kind)
        return refused(403, "E0000006", "You do not have permission to perform the requested action")

    # pages

    def limit(self, default: int, most: int) -> int:
        given = self.query.get("limit")
        if given is None:
            return default
        if not given.isdecimal():
            raise invalid("limit", "The limit must be a number")
        return min(int(given), most) or default

    def page(
        self, shelf: Shelf[T], show: Callable[[T], str], size: int, wanted: Callable[[T], bool] | None = None
    ) -> Reply:
        number, place = decode_cursor(self.query.get("after", ""))
        if place < 0:
            raise invalid("after", "The after cursor is not valid")
        items, place, more = shelf.page(place, size, wanted)
        links = [self._address({"limit": str(size)})]
        if more:
            links.append(self._address({"limit": str(size), "after": encode_cursor(number + 1, place)}))
        return Reply(200, array([show(item) for item in items]), link_headers(*links), TYPE)

    def _address(self, changed: dict[str, str]) -> str:
        return address(self.base + self.request.path, self.query | changed)


def base_of(request: Request, prefix: str) -> str:
    return f"http://{request.headers.get('host', '127.0.0.1')}{prefix}"


def address(path: str, query: Mapping[str, str]) -> str:
    ordered = sorted(query.items(), key=lambda pair: pair[0] != "after")
    return f"{path}?{urlencode(ordered, quote_via=quote)}" if query else path


def link_headers(own: str, following: str | None = None) -> Headers:
    """Two headers, `self` then `next`, as recorded."""
    links = [("link", f'<{own}>; rel="self"')]
    return tuple(links + ([("link", f'<{following}>; rel="next"')] if following else []))


def one(body: str, status: int = 200) -> Reply:
    return Reply(status, body.encode(), (), TYPE)


def encode_cursor(page: int, place: int) -> str:
    """Opaque to clients; the page's number in it is for rules."""
    return base64.urlsafe_b64encode(f"{page}.{place}".encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> tuple[int, int]:
    """Page and place; the first page for no cursor, and a place before the beginning for one never given out."""
    if not cursor:
        return 1, 0
    try:
        page, _, place = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().partition(".")
        return int(page), int(place)
    except (ValueError, binascii.Error):
        return 1, -1


def missing(ref: str, kind: str) -> Refusal:
    return refused(404, "E0000007", f"Not found: Resource not found: {ref} ({kind})")


def invalid(name: str, *causes: str) -> Refusal:
    return refused(400, "E0000001", f"Api validation failed: {name}", causes)
