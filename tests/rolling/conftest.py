from support.fixtures import _sandboxes, dialect, gateway

__all__ = ["_sandboxes", "dialect", "gateway"]
