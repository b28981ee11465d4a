"""The way in over HTTP: SCIM for identity providers, health and metrics for operators."""
