"""Bulk requests (RFC 7644 §3.7): many operations in one body, each committed by itself.

The writer serves others between two operations, so a bulk request of a thousand never keeps a leaver waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

import structlog
from scim2_models import Resource, SCIMException
from scim2_server.bulk import BulkPlan, BulkStep
from scim2_server.requests import ScimRequest
from scim2_server.service import ScimService

from idsync.errors import StoreError
from idsync.store.db import Db
from idsync.web.scim_storage import DirectoryStorage, Handler

log = structlog.get_logger("idsync.scim")

Outcome = tuple[dict[str, Any], Resource[Any] | None]
Submit = Callable[[Callable[[Db], Outcome]], Future[Outcome]]


class NotStored(SCIMException):
    """The store refused one operation of a bulk request; the client may send it again."""

    status = 503
    _default_detail = "The change could not be stored; try again."


class BulkHandler(Handler):
    """The core's handler; to it some operations come as refused already (RFC 7644 §3.7.3).

    It runs in a thread of its own and hands every operation to the writer, waiting for its commit.
    """

    def __init__(
        self, service: ScimService, storage: DirectoryStorage, submit: Submit, failures: Mapping[int, SCIMException]
    ) -> None:
        super().__init__(service, storage)
        self._storage = storage
        self._submit = submit
        self._failures = failures

    def run_bulk_step(self, request: ScimRequest, plan: BulkPlan, step: BulkStep) -> Outcome:
        failure = self._failures.get(step.index)
        try:
            if failure is None:
                return self._submit(lambda db: self._step(db, request, plan, step)).result()
        except StoreError as error:
            log.warning("scim_store_refused", method="BULK", error=str(error))
            failure = NotStored()
        outcome = self.service.bulk_outcome(request.base_url, plan.operation(step))
        return self.service.bulk_failure(outcome, failure), None

    def _step(self, db: Db, request: ScimRequest, plan: BulkPlan, step: BulkStep) -> Outcome:
        with self.service.provider:  # a context of this thread
            self._storage.db = db
            return super().run_bulk_step(request, plan, step)
