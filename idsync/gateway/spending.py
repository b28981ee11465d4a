"""The verbs about money: what was spent, and where the gateway sends its alerts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from idsync.errors import BadAnswer
from idsync.gateway.answers import TooLong, object_of
from idsync.gateway.caller import Caller
from idsync.gateway.parse import count_of
from idsync.gateway.spent import alerting_from, days_from, of_one, requests_from, together
from idsync.model import Alerting, DaySpend, LoggedRequest

ROWS = 500
"""Rows of a page: one a day, team or user, key and model (LiteLLM, source). 1,000 are its most for users."""
MOST_PAGES = 2_000


class Spending(Caller):
    """What the gateway books, and whom it tells."""

    async def daily_spend(self, start: str, end: str) -> list[DaySpend]:
        """Read what the organization spent by day, both days included (Routero docs, until 26 July 2026).

        Raises:
            Unsupported: the gateway, or its dialect, has no such endpoint.
            BadAnswer: the answer cannot be understood.
        """
        answer = await self._call("daily_spend", "", query={"start_date": start, "end_date": end})
        return together(days_from(answer, "billing/daily-spend"))

    async def team_activity(self, start: str, end: str) -> list[DaySpend]:
        """Read what every team spent by day, both days included. Raises as `daily_spend` does."""

        def read(answer: Any) -> list[DaySpend]:
            return days_from(answer, "team/daily/activity")

        return await self._activity("team_activity", "", {"start_date": start, "end_date": end}, read)

    async def user_activity(self, user_id: str, start: str, end: str) -> list[DaySpend]:
        """Read what one user spent by day, both days included. Raises as `daily_spend` does."""

        def read(answer: Any) -> list[DaySpend]:
            return of_one(answer, user_id, "user/daily/activity")

        query = {"user_id": user_id, "start_date": start, "end_date": end}
        return await self._activity("user_activity", user_id, query, read)

    async def requests_of(self, user_id: str, start: str, end: str) -> list[LoggedRequest]:
        """Read the requests of a user that began between two midnights (UTC), `end` not included.

        Raises:
            Unsupported: the gateway lists no requests.
            BadAnswer: the answer is too long, or no list.
        """
        query = {"user_id": user_id, "start_date": start, "end_date": end, "summarize": "false"}
        return requests_from(await self._call("spend_logs", user_id, query=query), user_id)

    async def alerting(self) -> Alerting:
        """Read where alerts go now.

        Raises:
            Unsupported: the gateway does not tell.
            BadAnswer: the answer cannot be understood.
        """
        return alerting_from(await self._call("config_read", ""))

    async def set_alerting(self, destinations: Sequence[str], types: Sequence[str] | None, webhook: str) -> None:
        """Send alerts to these, Slack by that webhook. Sections are merged key by key (LiteLLM, source); read back.

        Raises:
            Unsupported: the gateway has no /config/update.
        """
        general: dict[str, Any] = {"alerting": list(destinations)}
        if types is not None:
            general["alert_types"] = list(types)
        body = {"general_settings": general, "environment_variables": {"SLACK_WEBHOOK_URL": webhook}}
        object_of(await self._call("config_update", "", body=body), "config/update")

    async def _activity(
        self, name: str, target: str, query: Mapping[str, Any], read: Callable[[Any], list[DaySpend]]
    ) -> list[DaySpend]:
        """Read every page; of what is too long for one answer, smaller ones."""
        size = ROWS
        while True:
            try:
                return await self._activity_pages(name, target, {**query, "page_size": size}, read)
            except TooLong:
                if size == 1:
                    raise
                size = max(1, size // 4)

    async def _activity_pages(
        self, name: str, target: str, query: Mapping[str, Any], read: Callable[[Any], list[DaySpend]]
    ) -> list[DaySpend]:
        """Read until the answer says that there is no more; one that does not say so is the only page.

        Raises:
            BadAnswer: the same page comes again, or there is no end.
        """
        days: list[DaySpend] = []
        last: Any = None
        for number in range(1, MOST_PAGES + 1):
            answer = await self._call(name, target, query={**query, "page": number})
            days += read(answer)
            told = answer.get("metadata") if isinstance(answer, dict) else None
            if not _goes_on(told if isinstance(told, dict) else {}, number):
                return together(days)
            if answer == last or not read(answer):
                raise BadAnswer(f"{name}: the pages go in circles")
            last = answer
        raise BadAnswer(f"{name}: the pages do not end")


def _goes_on(told: Mapping[str, Any], number: int) -> bool:
    pages = count_of(told.get("total_pages"))
    return number < pages if pages is not None else told.get("has_more") is True
