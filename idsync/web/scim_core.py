"""Requests that need the protocol core: whatever no short cut knows.

The core builds models, which costs milliseconds, and hundreds of them for a large group. So it runs in threads, on a
snapshot; only the finished change goes to the writer, which stores it if nobody has changed the record meanwhile.
A leaver's push never waits for somebody else's filter or PATCH.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, cast

from scim2_models import Context, PayloadTooLargeException, Resource, ResourceType, SCIMException
from scim2_server.bulk import BulkPlan, BulkStep
from scim2_server.conditions import Conditions
from scim2_server.handler import ScimHandler
from scim2_server.requests import ScimRequest
from scim2_server.responses import ScimResponse
from scim2_server.routing import Operation
from scim2_server.service import ScimService

from idsync.errors import StoreError
from idsync.scim.documents import compact
from idsync.scim.provider import Description, Service
from idsync.store.db import Db
from idsync.web import scim_rows
from idsync.web.scim_messages import Call, Incoming, Reply
from idsync.web.scim_storage import DirectoryStorage, Intake, Raced, Store, Submit

ATTEMPTS = 4
"""How often a change is judged anew because its record was changed meanwhile, before it is judged in the writer."""
MAX_WORK = 100_000
"""Operations of one PATCH times the members of its group: each looks at all of them, about 0.02 ms for a member."""

Outcome = tuple[dict[str, Any], Resource[Any] | None]


class Core:
    """Runs requests through the core, each in the thread that calls; none of these is for the event loop."""

    def __init__(self, store: Store, intake: Intake, description: Description, base: str) -> None:
        self._store = store
        self._intake = intake
        self._description = description
        self._base = base

    def read(self, incoming: Incoming) -> Reply:
        """Answer a request that changes nothing."""
        with self._store.reader().snapshot() as db:
            return self._handled(db, incoming)

    def search(self, incoming: Incoming, call: Call, endpoint: str, *, by_body: bool) -> Reply:
        """Search one kind of resource: from rows where the database can do it alone."""
        core = self._description.service(strict=incoming.strict)
        with self._store.reader().snapshot() as db:
            with core.provider:
                types = core.searched_types(endpoint)
                if by_body:
                    request, position = core.read_search_body(types, incoming.body, None)
                else:
                    request, position = core.read_search_query(types, incoming.query)
                reply = scim_rows.search(db, call, request, position, core.sealer(types, request))
            return reply or self._handled(db, incoming)

    def write(self, incoming: Incoming, submit: Submit) -> Reply:
        """Make a change and wait until it is on disk."""
        for _ in range(ATTEMPTS):
            try:
                return self._handled(self._store.reader(), incoming, submit)
            except Raced:
                continue
        return submit(lambda db: self._handled(db, incoming))

    def bulk(self, incoming: Incoming, failures: Mapping[int, SCIMException], submit: Submit) -> Reply:
        """Run a bulk request operation by operation, each with a commit of its own (RFC 7644 §3.7)."""
        core = self._description.service(strict=incoming.strict)
        storage = self._storage(self._store.reader(), incoming, core, submit)
        return _reply(BulkHandler(core, storage, failures).handle(self._request(incoming)))

    def _handled(self, db: Db, incoming: Incoming, submit: Submit | None = None) -> Reply:
        core = self._description.service(strict=incoming.strict)
        return _reply(Handler(core, self._storage(db, incoming, core, submit)).handle(self._request(incoming)))

    def _storage(self, db: Db, incoming: Incoming, core: Service, submit: Submit | None) -> DirectoryStorage:
        return DirectoryStorage(db, self._intake, incoming.source, incoming.origin, core.provider, submit)

    def _request(self, incoming: Incoming) -> ScimRequest:
        return ScimRequest(
            method=incoming.method,
            base_url=self._base,
            path=incoming.path,
            query=incoming.query,
            headers=incoming.headers,
            body=incoming.body,
        )


class Handler(ScimHandler):
    """The core's handler, except that the intake decides whether anything changed: a repeated fact is one as well."""

    storage: DirectoryStorage

    def create(self, request: ScimRequest) -> ScimResponse:
        """Create a resource and answer as much of it as is asked for (RFC 7644 §3.3, §3.9)."""
        with self.service.provider:
            target = self.service.route(request, Operation.create)
            resource_type = self.service.resource_type_at(cast(str, target.endpoint))
            asked = self.service.read_response_parameters(resource_type, request.query)
            resource = self.service.read_creation(resource_type, request.body, request.header("Content-Type"))
            with self.storage.operation():
                made = self.service.publish(request.base_url, self.storage.create(resource_type, resource))
            answer = self.service.resource_response(
                made, Context.RESOURCE_CREATION_RESPONSE, asked, status=HTTPStatus.CREATED
            )
            answer.headers["Location"] = answer.headers["Content-Location"]
            return answer

    def replace_resource(
        self, resource_type: ResourceType, current: Any, replacement: Any, conditions: Conditions
    ) -> Resource[Any]:
        version = current.meta.version
        self.service.apply_replacement(current, replacement, conditions)
        return self.storage.update(resource_type, replacement, expected_version=version)

    def patch_resource(
        self, resource_type: ResourceType, resource_id: str, patch_op: Any, conditions: Conditions
    ) -> Resource[Any]:
        current: Any = self.storage.get(resource_type, resource_id)
        version = current.meta.version
        if len(patch_op.operations) * len(getattr(current, "members", None) or ()) > MAX_WORK:
            detail = (
                f"So many operations on a group of this size are not served (at most {MAX_WORK} operations times "
                "members); send fewer in one request, or add and remove members by their ids."
            )
            raise PayloadTooLargeException(detail=detail)
        self.storage.show_waiting(current)
        patch_op = self.storage.by_id(current, patch_op)
        if self.service.apply_patch(current, patch_op, conditions) is None:
            current = self.storage.get(resource_type, resource_id)
            self.storage.show_waiting(current)
        return self.storage.update(resource_type, current, expected_version=version, patched=True)


class BulkHandler(Handler):
    """The core's handler; to it some operations come as refused already (RFC 7644 §3.7.3).

    The writer serves others between two operations, so a bulk request of a thousand never keeps a leaver waiting.
    """

    def __init__(self, service: ScimService, storage: DirectoryStorage, failures: Mapping[int, SCIMException]) -> None:
        super().__init__(service, storage)
        self._failures = failures

    def run_bulk_step(self, request: ScimRequest, plan: BulkPlan, step: BulkStep) -> Outcome:
        failure = self._failures.get(step.index)
        if failure is not None:
            return self._refused(request, plan, step, failure)
        for _ in range(ATTEMPTS):
            self.storage.raced = False
            outcome = super().run_bulk_step(request, plan, step)
            if not self.storage.raced:
                return outcome
        try:
            return self.storage.within(lambda: self._inside(request, plan, step))
        except StoreError as error:
            return self._refused(request, plan, step, error)

    def _refused(self, request: ScimRequest, plan: BulkPlan, step: BulkStep, error: Exception) -> Outcome:
        outcome = self.service.bulk_outcome(request.base_url, plan.operation(step))
        return self.service.bulk_failure(outcome, error), None

    def _inside(self, request: ScimRequest, plan: BulkPlan, step: BulkStep) -> Outcome:
        with self.service.provider:  # a context of this thread
            return super().run_bulk_step(request, plan, step)

    def patch_resource(
        self, resource_type: ResourceType, resource_id: str, patch_op: Any, conditions: Conditions
    ) -> Resource[Any]:
        fresh = patch_op.model_copy(deep=True)  # applying one ties its values to the record; it may be applied again
        return super().patch_resource(resource_type, resource_id, fresh, conditions)


def _reply(response: ScimResponse) -> Reply:
    """Write an answer of the core; the media type is ours to send."""
    body = None if response.body is None else compact(response.body)
    kept = {name: value for name, value in response.headers.items() if name.lower() != "content-type"}
    return Reply(response.status, body, kept)
