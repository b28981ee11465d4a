"""Entra's token endpoint, its OpenID configuration, and a managed identity endpoint of the App Service shape."""

from __future__ import annotations

import base64
import hashlib
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from idsync.sandbox.idp.jsontext import moment
from idsync.sandbox.replies import Refusal, Reply
from idsync.sandbox.wire import Request

JSON = dict[str, Any]
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
GRAPHS = (
    "graph.microsoft.com",
    "graph.microsoft.us",
    "dod-graph.microsoft.us",
    "microsoftgraph.chinacloudapi.cn",
)
LIFETIME = 3599
LEEWAY = 300
RESOURCE_ID = "00000003-0000-0000-c000-000000000000"

# https://learn.microsoft.com/entra/identity-platform/reference-error-codes
REFUSALS: dict[int, tuple[int, str, str]] = {
    50027: (401, "invalid_client", "JWT token is invalid or malformed."),
    70003: (400, "unsupported_grant_type", "The app requested an unsupported grant type '{name}'."),
    90002: (
        400,
        "invalid_request",
        "Tenant '{name}' not found. Check to make sure you have the correct tenant ID and are signing into the correct "
        "cloud.",
    ),
    500011: (
        400,
        "invalid_resource",
        "The resource principal named {name} was not found in the tenant named {tenant}.",
    ),
    700016: (
        400,
        "unauthorized_client",
        "Application with identifier '{name}' was not found in the directory '{tenant}'.",
    ),
    700021: (
        401,
        "invalid_client",
        "Client assertion application identifier doesn't match 'client_id' parameter.",
    ),
    700023: (401, "invalid_client", "Client assertion audience claim does not match Realm issuer."),
    700024: (401, "invalid_client", "Client assertion is not within its valid time range."),
    700027: (
        401,
        "invalid_client",
        "Client assertion contains an invalid signature. [Reason - {reason}, Thumbprint of key used by client: "
        "'{name}'{found}]",
    ),
    700212: (
        400,
        "invalid_request",
        "No matching federated identity record found for presented assertion audience '{name}'.",
    ),
    700213: (
        400,
        "invalid_request",
        "No matching federated identity record found for presented assertion subject '{name}'.",
    ),
    1002012: (
        400,
        "invalid_scope",
        "The provided value for scope {name} is not valid. Client credential flows must have a scope value with "
        "/.default suffixed to the resource identifier (application ID URI).",
    ),
    7000215: (
        401,
        "invalid_client",
        "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not "
        "the client secret ID, for a secret added to app '{name}'.",
    ),
    7000218: (
        401,
        "invalid_client",
        "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.",
    ),
    7000222: (
        401,
        "invalid_client",
        "The provided client secret keys for app '{name}' are expired. Visit the Azure portal to create new keys for "
        "your app: https://aka.ms/NewClientSecret, or consider using certificate credentials for added security: "
        "https://aka.ms/certCreds.",
    ),
}


@dataclass(frozen=True)
class Grant:
    client_id: str
    roles: frozenset[str]
    until: float


class Entra:
    """`clients` are {"client_id", "secrets": [{"value", "expires"}], "certificates": [PEM], "federated": [{"issuer",
    "subject", "audience", "key"}], "roles": [...]}; without roles, a client has those of the tenant's settings."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._issued: dict[str, Grant] = {}
        self.tenant = ""
        self.clients: list[JSON] = []
        self.roles: list[str] = []
        self.identity_header = ""

    def revoke_all(self) -> None:
        """Every access token is refused from now on."""
        self._issued.clear()

    def grant(self, token: str) -> Grant | None:
        found = self._issued.get(token)
        return found if found is not None and found.until > self._now() else None

    def answer(self, request: Request, base: str) -> Reply:
        """`base` is the address the authority is under; the path begins after it."""
        if request.path == "/msi/token":
            return self._managed_identity(request)
        tenant, _, rest = request.path.lstrip("/").partition("/")
        if rest in (".well-known/openid-configuration", "v2.0/.well-known/openid-configuration"):
            self._check_tenant(tenant)
            return Reply(200, configuration(base, tenant))
        if rest == "oauth2/v2.0/token" and request.method == "POST":
            self._check_tenant(tenant)
            return self._token(request, base, tenant)
        return Reply(404, {"error": "not_found"})

    def _check_tenant(self, tenant: str) -> None:
        if tenant != self.tenant:
            raise self._refused(90002, tenant)

    # client credentials

    def _token(self, request: Request, base: str, tenant: str) -> Reply:
        form = {name: values[0] for name, values in parse_qs(request.raw.decode("latin-1")).items()}
        if form.get("grant_type") != "client_credentials":
            raise self._refused(70003, form.get("grant_type", ""))
        name = form.get("client_id", "")
        client = next((c for c in self.clients if c["client_id"] == name), None)
        if client is None:
            raise self._refused(700016, name)
        if "client_assertion" in form:
            self._check_assertion(form, client, f"{base}/{tenant}/oauth2/v2.0/token")
        elif "client_secret" in form:
            self._check_secret(form["client_secret"], client)
        else:
            raise self._refused(7000218)
        self._check_scope(form.get("scope", ""), request)
        body = {"token_type": "Bearer", "expires_in": LIFETIME, "ext_expires_in": LIFETIME}
        return Reply(200, body | {"access_token": self._issue(client)})

    def _check_scope(self, scope: str, request: Request) -> None:
        resource, dot, rest = scope.rpartition("/.default")
        if not dot or rest:
            raise self._refused(1002012, scope)
        self._check_resource(resource, request)

    def _check_resource(self, resource: str, request: Request) -> None:
        host = urlsplit(resource).netloc
        if host not in GRAPHS and host != request.headers.get("host") and resource != RESOURCE_ID:
            raise self._refused(500011, resource)

    def _check_secret(self, given: str, client: JSON) -> None:
        known = next((s for s in client.get("secrets", ()) if secrets.compare_digest(s["value"], given)), None)
        if known is None:
            raise self._refused(7000215, client["client_id"])
        expires = known.get("expires")
        if expires is not None and (moment(expires) if isinstance(expires, str) else float(expires)) <= self._now():
            raise self._refused(7000222, client["client_id"])

    def _check_assertion(self, form: dict[str, str], client: JSON, address: str) -> None:
        import jwt

        if form.get("client_assertion_type") != ASSERTION:
            raise self._refused(50027)
        try:
            header = jwt.get_unverified_header(form["client_assertion"])
            claims = jwt.decode(form["client_assertion"], options={"verify_signature": False})
        except jwt.PyJWTError:
            raise self._refused(50027) from None
        if claims.get("iss") == client["client_id"]:
            claims = self._signed_by_certificate(form["client_assertion"], header, client)
            self._check_claims(claims, client, address)
        else:
            self._federated(form["client_assertion"], claims, client)
        since, until, now = float(claims.get("nbf") or 0), float(claims.get("exp") or 0), self._now()
        if until < now - LEEWAY or since > now + LEEWAY:
            raise self._refused(700024)

    def _check_claims(self, claims: JSON, client: JSON, address: str) -> None:
        """The audience is the token endpoint, which a client over loopback may have with https."""
        if claims.get("sub") != client["client_id"]:
            raise self._refused(700021)
        if claims.get("aud") not in (address, address.replace("http://", "https://", 1)):
            raise self._refused(700023)

    def _signed_by_certificate(self, assertion: str, header: JSON, client: JSON) -> JSON:
        import jwt
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import Encoding

        shown = str(header.get("x5t#S256") or header.get("x5t") or "").rstrip("=")  # msal writes the padding
        for pem in client.get("certificates", ()):
            certificate = x509.load_pem_x509_certificate(pem.encode())
            der = certificate.public_bytes(Encoding.DER)
            if shown not in (_digest(hashlib.sha256(der)), _digest(hashlib.sha1(der))):  # noqa: S324 - x5t is SHA-1
                continue
            since, until = certificate.not_valid_before_utc, certificate.not_valid_after_utc
            if until.timestamp() < self._now():
                found = f", Found key 'Start={since:%m/%d/%Y %H:%M:%S}, End={until:%m/%d/%Y %H:%M:%S}'"
                raise self._refused(700027, shown, reason="The key used is expired.", found=found)
            try:
                claims: JSON = jwt.decode(
                    assertion,
                    certificate.public_key(),  # type: ignore[arg-type]
                    algorithms=["RS256", "PS256"],
                    options={"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": False},
                )
            except (jwt.PyJWTError, TypeError, ValueError):
                raise self._refused(700027, shown, reason="The provided signature value did not match.") from None
            return claims
        raise self._refused(700027, shown, reason="The key was not found.")

    def _federated(self, assertion: str, claims: JSON, client: JSON) -> None:
        """The assertion of another issuer, for a federated credential that names issuer, subject and audience."""
        import jwt

        shown = (claims.get("iss"), claims.get("sub"))
        known = next((f for f in client.get("federated", ()) if (f["issuer"], f["subject"]) == shown), None)
        if known is None:
            raise self._refused(700213, claims.get("sub"))
        try:
            jwt.decode(
                assertion,
                known["key"],
                algorithms=["RS256", "ES256"],
                audience=known.get("audience", "api://AzureADTokenExchange"),
                options={"verify_exp": False, "verify_nbf": False, "verify_iat": False},
            )
        except jwt.InvalidAudienceError:
            raise self._refused(700212, claims.get("aud")) from None
        except (jwt.PyJWTError, TypeError, ValueError):
            raise self._refused(700027, reason="The provided signature value did not match.") from None

    def _issue(self, client: JSON) -> str:
        token = f"eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9.{secrets.token_urlsafe(64)}.{secrets.token_urlsafe(43)}"
        roles = client.get("roles")
        granted = frozenset(self.roles if roles is None else roles)
        self._issued[token] = Grant(str(client["client_id"]), granted, self._now() + LIFETIME)
        return token

    # https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference

    def _managed_identity(self, request: Request) -> Reply:
        if request.headers.get("x-identity-header") != self.identity_header:
            return Reply(401, {"statusCode": 401, "message": "Unauthorized"})
        resource = request.query.get("resource", "")
        if request.query.get("api-version") != "2019-08-01" or not resource:
            return Reply(400, {"statusCode": 400, "message": "Bad Request"})
        try:
            self._check_resource(resource, request)
        except Refusal as refusal:
            return Reply(400, {"statusCode": 400, "message": refusal.reply.body["error_description"]})
        client = {"client_id": request.query.get("client_id") or "11111111-5a4d-4bd0-a5e1-5a4db0xmsi00"}
        body = {
            "access_token": self._issue(client),
            "expires_on": str(int(self._now()) + LIFETIME),
            "resource": resource,
            "token_type": "Bearer",
            "client_id": client["client_id"],
        }
        return Reply(200, body)

    def _refused(self, code: int, name: Any = "", *, reason: str = "", found: str = "") -> Refusal:
        status, error, text = REFUSALS[code]
        said = text.format(name=name, tenant=self.tenant, reason=reason, found=found)
        trace, correlation = str(uuid.uuid4()), str(uuid.uuid4())
        at = datetime.fromtimestamp(self._now(), UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        body = {
            "error": error,
            "error_description": f"AADSTS{code}: {said} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {at}",
            "error_codes": [code],
            "timestamp": at,
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": f"https://login.microsoftonline.com/error?code={code}",
        }
        return Refusal(Reply(status, body))


def configuration(base: str, tenant: str) -> JSON:
    """With https, which msal demands; it is for the client to reach a loopback address without."""
    address = base.replace("http://", "https://", 1) + f"/{tenant}"
    return {
        "token_endpoint": f"{address}/oauth2/v2.0/token",
        "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt", "client_secret_basic"],
        "jwks_uri": f"{address}/discovery/v2.0/keys",
        "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
        "scopes_supported": ["openid", "profile", "email", "offline_access"],
        "issuer": f"{address}/v2.0",
        "authorization_endpoint": f"{address}/oauth2/v2.0/authorize",
        "device_authorization_endpoint": f"{address}/oauth2/v2.0/devicecode",
        "tenant_region_scope": "EU",
        "cloud_instance_name": "microsoftonline.com",
        "msgraph_host": "graph.microsoft.com",
    }


def _digest(digest: Any) -> str:
    return base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()
