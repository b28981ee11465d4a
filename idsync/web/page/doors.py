"""What somebody sees who is not inside: what to do to get in."""

from __future__ import annotations

from idsync.web.page.frame import bare
from idsync.web.page.html import Markup, tag


def no_token() -> Markup:
    return bare(
        "Closed",
        tag("h1", "Nobody can log in yet"),
        tag("p", "No operator token exists. On the machine where idsync runs:"),
        tag("pre", tag("code", "idsync token new --operator NAME --expires 90d")),
        tag("p", "With ", tag("code", "--scope approve"), " it may also decide holds. Then load this page again."),
    )


def log_in(wanted: str, problem: str) -> Markup:
    told = tag("p", problem, class_="problem", role="alert", id="problem") if problem else None
    field = tag(
        "input",
        id="token",
        name="token",
        type="password",
        autocomplete="current-password",
        required=True,
        autofocus=True,
        spellcheck="false",
        aria_describedby="problem hint" if problem else "hint",
    )
    kept_as = tag("input", type="text", name="username", value="idsync operator", autocomplete="username", hidden=True)
    form = tag(
        "form",
        kept_as,
        tag("label", "Operator token", for_="token"),
        field,
        tag("p", "Made with ", tag("code", "idsync token new --operator NAME"), ".", id="hint", class_="hint"),
        tag("input", type="hidden", name="next", value=wanted),
        tag("button", "Log in", class_="main"),
        method="post",
        action="/login",
    )
    again = tag(
        "p", "Came here by a link, and logged in already? ", tag("a", "Open it again", href=wanted), ".", class_="hint"
    )
    return bare("Log in", tag("h1", "Log in"), told, form, again)


def foreign() -> Markup:
    return bare(
        "Refused",
        tag("h1", "Not done"),
        tag("p", "That form was not sent by a page of this session. A proxy in front has to pass the Host header on."),
        tag("p", tag("a", "To the overview", href="/")),
    )


def broken(why: str) -> Markup:
    return bare(
        "Not shown", tag("h1", "The store could not be read"), tag("p", why), tag("p", "idsync doctor says more.")
    )
