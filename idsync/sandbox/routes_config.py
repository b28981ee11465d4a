"""/config/*: the gateway's own settings, as far as alerts go. Sections are merged key by key."""

from __future__ import annotations

from typing import Any

from idsync.sandbox.calls import LITELLM, Call, Endpoint
from idsync.sandbox.validate import mapping

ALERT_TYPES = ("llm_exceptions", "llm_too_slow", "budget_alerts", "daily_reports")


def update(call: Call) -> Any:
    config = call.state.config
    for section in ("general_settings", "environment_variables"):
        config.setdefault(section, {}).update(mapping(call.body, section) or {})
    return {"message": "Config updated successfully"}


def callbacks(call: Call) -> Any:
    """What alerts go where. Slack is told of only while it is one of the destinations."""
    settings = call.state.config.get("general_settings", {})
    variables = call.state.config.get("environment_variables", {})
    destinations = settings.get("alerting") or []
    alerts: list[dict[str, Any]] = [{"name": "email", "variables": {"SMTP_HOST": variables.get("SMTP_HOST")}}]
    if "slack" in destinations:
        shown = {"SLACK_WEBHOOK_URL": variables.get("SLACK_WEBHOOK_URL")}
        types = settings.get("alert_types") or list(ALERT_TYPES)
        alerts.insert(0, {"name": "slack", "variables": shown, "active_alerts": types})
    return {"status": "success", "callbacks": [], "alerts": alerts, "active_alerting_destinations": destinations}


ENDPOINTS = [
    Endpoint("POST", "/config/update", update),
    Endpoint("GET", "/get/config/callbacks", callbacks, dialects=LITELLM),
]
