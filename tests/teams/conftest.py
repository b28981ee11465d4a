from support.fixtures import _sandboxes, dialect, gateway, opened

__all__ = ["_sandboxes", "dialect", "gateway", "opened"]
