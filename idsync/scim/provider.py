"""What this service says about itself: schemas, resource types and capabilities, each of them true.

The models are built from the discovery documents, because the hand-written `User` of scim2-models validates e-mail
addresses by deliverability rules and so refuses `a@corp.local`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from pydantic import ValidationError
from scim2_models import (
    Attribute,
    AuthenticationScheme,
    Bulk,
    BulkOperation,
    ChangePassword,
    Context,
    Error,
    ETag,
    Filter,
    Mutability,
    Pagination,
    Patch,
    Resource,
    ResourceType,
    ResponseParameters,
    Returned,
    Schema,
    SCIMException,
    ScimPolicy,
    ScimProvider,
    SearchRequest,
    ServiceProviderConfig,
    Sort,
    Uniqueness,
)
from scim2_server.responses import ScimResponse
from scim2_server.service import ScimService
from scim2_server.storage import SearchPage
from scim2_server.utils import load_default_resource_types, load_default_schemas

from idsync.clock import new_secret
from idsync.errors import StoreError
from idsync.model import fold
from idsync.scim.extensions import Extension

log = structlog.get_logger("idsync.scim")

LIST_RESPONSE = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
MAX_BODY = 1024 * 1024
"""Bytes of a request body, bulk requests included."""
MAX_OPERATIONS = 1000
"""Operations of one PATCH or one bulk request."""
MAX_MEMBERS = 10_000
"""Members named by one request."""
PAGE = 100
"""Resources on a page when the client asks for no number."""
MAX_PAGE = 200
"""Most resources on a page."""
CURSOR_SECONDS = 3600
"""How long a cursor stays good; a restart of the daemon ends all of them, as their key is made anew (RFC 9865 §2)."""
SMALL_GROUP = 100
"""Groups up to this size are answered in full after a change, larger ones with 204."""


def _key(binding: Any, value: str) -> str:
    """Compare as the columns of the store do."""
    return value if binding.case_exact else fold(value)


_FORGIVEN: Mapping[str, Any] = {
    "unknown": ScimPolicy.Unknown.ignore,
    "remove_value_as_filter": ScimPolicy.RemoveValue.apply,
    "unmatched_path_filter": ScimPolicy.UnmatchedPathFilter.create,
}
TOLERANT = ScimPolicy(comparison_key=_key, **_FORGIVEN)
STRICT = ScimPolicy(comparison_key=_key)
TOLERANT_READING = ScimPolicy(**_FORGIVEN)
STRICT_READING = ScimPolicy()
"""To read whole resources: with a comparison key of ours the library tries it on every text, and ours takes any."""


def _config() -> ServiceProviderConfig:
    """Announce only what is served and tested."""
    return ServiceProviderConfig(
        patch=Patch(supported=True),
        bulk=Bulk(supported=True, max_operations=MAX_OPERATIONS, max_payload_size=MAX_BODY),
        filter=Filter(supported=True, max_results=MAX_PAGE),
        change_password=ChangePassword(supported=False),
        sort=Sort(supported=True),
        etag=ETag(supported=True),
        pagination=Pagination(
            cursor=True,
            index=True,
            default_pagination_method=Pagination.DefaultPaginationMethod.index,
            default_page_size=PAGE,
            max_page_size=MAX_PAGE,
            cursor_timeout=CURSOR_SECONDS,
        ),
        authentication_schemes=[
            AuthenticationScheme(
                type=AuthenticationScheme.Type.oauthbearertoken,
                name="Bearer token",
                description="The token of a source, made with `idsync token new SOURCE` (RFC 6750 §2.1)",
                primary=True,
            )
        ],
    )


class Description:
    """The schemas and resource types that are served: RFC 7643's, and the operator's extensions.

    One object is built at start-up; the providers and services for tolerant and strict sources come from it.
    """

    def __init__(self, extensions: Sequence[Extension] = (), *, secret: str | None = None) -> None:
        self.extensions = tuple(extensions)
        self.schemas: tuple[Schema, ...] = (*_core_schemas(), *(one.schema for one in extensions))
        self._types = [_extended(one, self.extensions) for one in load_default_resource_types().values()]
        self.known = {str(one.name): _urns(one) for one in self._types}
        self._secret = secret or new_secret()
        self._services: dict[bool, Service] = {}

    def provider(self, *, strict: bool) -> ScimProvider:
        """Return the description of the service for tolerant or for strict sources."""
        return self.service(strict=strict).provider

    def service(self, *, strict: bool) -> Service:
        """Return the protocol core for tolerant or for strict sources."""
        if strict not in self._services:
            provider = ScimProvider.from_discovery(
                self.schemas if strict else _lenient(self.schemas),
                self._types,
                config=_config(),
                policy=STRICT if strict else TOLERANT,
            )
            reading = STRICT_READING if strict else TOLERANT_READING
            self._services[strict] = Service(provider, secret=self._secret, reading=reading)
        return self._services[strict]


def _core_schemas() -> list[Schema]:
    """Return RFC 7643's schemas as this service keeps them.

    `password` is left out: one that is sent is thrown away unread. A group's displayName is unique within its source,
    which Entra needs in order to match (RFC 7643 §7 lets a provider say so). A member's `display` is the name of the
    user or group it is, whatever was sent, and answered when it is asked for.
    """
    loaded = list(load_default_schemas().values())
    for schema in loaded:
        schema.attributes = [one for one in schema.attributes or [] if one.name != "password"]
        for attribute in schema.attributes:
            if schema.name == "Group" and attribute.name == "displayName":
                attribute.uniqueness = Uniqueness.server
            for sub in attribute.sub_attributes or ():
                if schema.name == "Group" and sub.name == "display":
                    sub.mutability, sub.returned = Mutability.read_only, Returned.request
    return loaded


def _lenient(schemas: Sequence[Schema]) -> list[Schema]:
    """Take the addresses of pictures and profiles as text: a leaver must not be refused for one without a scheme."""
    made = [schema.model_copy(deep=True) for schema in schemas]
    for schema in made:
        for attribute in schema.attributes or ():
            for one in (attribute, *(attribute.sub_attributes or ())):
                if attribute.name in ("profileUrl", "photos") and one.type == Attribute.Type.reference:
                    one.type, one.reference_types = Attribute.Type.string, None
    return made


def _urns(resource_type: ResourceType) -> frozenset[str]:
    """Return the schemas a resource may have: its own and its extensions'."""
    extensions = resource_type.schema_extensions or ()
    return frozenset({str(resource_type.schema_), *(str(one.schema_) for one in extensions)})


def _extended(resource_type: ResourceType, extensions: Sequence[Extension]) -> ResourceType:
    added = [{"schema": one.urn, "required": False} for one in extensions if one.resource == resource_type.name]
    if not added:
        return resource_type
    document = resource_type.model_dump()
    document["schemaExtensions"] = [*(document.get("schemaExtensions") or ()), *added]
    return ResourceType.model_validate(document)


def plain(error: Exception, detail: str | None) -> str:
    """Return the sentence of a refusal without what names our models and their library."""
    cause = error if isinstance(error, ValidationError) else error.__cause__
    if isinstance(cause, ValidationError) and any(not one["type"].startswith("scim_") for one in cause.errors()):
        return "A value is not of its attribute's type."
    if detail and ("instance of" in detail or "validation error" in detail):
        return "A value is not of its attribute's type."
    return (detail or "The request was refused.")[:2000]


class Service(ScimService):
    """The core with one choice of ours: a PATCH answers with the resource, unless it is a large group.

    Entra and several test suites want the body of a user; RFC 7644 §3.5.2 allows 204, which spares a client two
    thousand members it did not ask for.
    """

    def __init__(self, provider: ScimProvider, *, secret: str, reading: ScimPolicy) -> None:
        super().__init__(provider, secret=secret)
        self.reading = reading

    @staticmethod
    def bulk_validation_failure(operation: BulkOperation[Resource[Any]], outcome: dict[str, Any]) -> Any:
        """Refuse an operation of a bulk request in our own words."""
        made = ScimService.bulk_validation_failure(operation, outcome)
        if made:
            made["response"].detail = plain(Exception(), made["response"].detail)
        return made

    def bulk_failure(self, outcome: dict[str, Any], exception: Exception) -> dict[str, Any]:
        """Answer what made one operation of a bulk request fail, and log what is not the client's doing."""
        if isinstance(exception, StoreError):
            log.warning("scim_store_refused", method="BULK", error=str(exception))
        elif not isinstance(exception, SCIMException):
            log.error("scim_request_failed", method="BULK", exc_info=exception)
        return super().bulk_failure(outcome, exception)

    @staticmethod
    def error_of(exception: Exception) -> Any:
        """Answer an accident in our own words."""
        if isinstance(exception, StoreError):
            return Error(status=503, detail="The change could not be stored; try again.")
        error = ScimService.error_of(exception)
        error.detail = plain(exception, error.detail)
        return error

    def patch_response(
        self, base_url: str, resource: Resource[Any], response_parameters: ResponseParameters[Any]
    ) -> ScimResponse:
        asked = response_parameters.attributes or response_parameters.excluded_attributes
        if not asked and len(getattr(resource, "members", None) or ()) > SMALL_GROUP:
            version = resource.meta.version if resource.meta else None
            return ScimResponse(HTTPStatus.NO_CONTENT, None, {"ETag": version} if version else {})
        return self.resource_response(
            self.publish(base_url, resource), Context.RESOURCE_REPLACEMENT_RESPONSE, response_parameters
        )

    def search_response(
        self,
        base_url: str,
        resource_types: list[ResourceType],
        page: SearchPage,
        search_request: SearchRequest[Any],
    ) -> ScimResponse:
        """List a page; the library's own list would drop again what is answered on request only (RFC 7643 §7)."""
        found = [
            self.publish(base_url, one).model_dump(
                scim_ctx=Context.RESOURCE_QUERY_RESPONSE, response_parameters=search_request
            )
            for one in page.resources
        ]
        body: dict[str, Any] = {
            "schemas": [LIST_RESPONSE],
            "totalResults": page.total,
            "itemsPerPage": len(found),
        }
        if search_request.cursor is None:
            body["startIndex"] = search_request.start_index or 1
        elif search_request.count != 0:
            seal = self.sealer(resource_types, search_request)
            cursors = {"nextCursor": seal(page.next), "previousCursor": seal(page.previous)}
            body |= {name: cursor for name, cursor in cursors.items() if cursor}
        return ScimResponse(HTTPStatus.OK, {**body, "Resources": found})

    def sealer(self, types: list[ResourceType], request: SearchRequest[Any]) -> Callable[[Any], str | None]:
        """Return what makes the cursor of a position in this search (RFC 9865 §2); None stays None."""
        return lambda position: self._seal(types, request, position)
