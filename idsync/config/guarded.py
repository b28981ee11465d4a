"""Who may read and write the files that hold secrets.

    others may write it       the daemon does not start: whoever writes it chooses our credential
    others may read it        a warning at start and in `idsync doctor`

What systemd (LoadCredential) or a container platform (/run/secrets) puts in place is shown to nobody else by them: its
modes are theirs, and readable by all inside of a container is what Docker does.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import BaseModel

from idsync.config.tables import Config

CREDENTIALS = "CREDENTIALS_DIRECTORY"
"""Where systemd puts what LoadCredential names (systemd.exec(5))."""
PLATFORM = ("/run/secrets", "/var/run/secrets")
NO_SECRETS = frozenset({"ca_file", "schema_file"})
"""Keys that end in `_file` and name something everybody may read."""


def secret_files(config: BaseModel, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield every file that holds a secret, with the path of its setting: each key that ends in `_file` names one."""
    for name in type(config).model_fields:
        value, here = getattr(config, name), f"{path}.{name}" if path else name
        if isinstance(value, BaseModel):
            yield from secret_files(value, here)
        elif isinstance(value, tuple):
            for index, entry in enumerate(value):
                if isinstance(entry, BaseModel):
                    yield from secret_files(entry, f"{here}.{getattr(entry, 'name', index)}")
        elif name.endswith("_file") and name not in NO_SECRETS and isinstance(value, str) and value:
            yield here, value


def writable_secrets(config: Config) -> list[tuple[str, str]]:
    """Return the secret files that anybody on this machine may write, each with what to do."""
    return [
        (path, f"anybody may write {file}; chmod o-w {file}, then make a new secret")
        for path, file in secret_files(config)
        if _mode(file) & stat.S_IWOTH
    ]


def readable_secrets(config: Config, environ: Mapping[str, str] | None = None) -> list[tuple[str, str]]:
    """Return the secret files that anybody on this machine may read, each with what to do."""
    environ = os.environ if environ is None else environ
    return [
        (path, f"anybody on this machine may read {file}; chmod o= {file}")
        for path, file in secret_files(config)
        if _mode(file) & stat.S_IROTH and not is_of_the_platform(file, environ)
    ]


def is_of_the_platform(file: str, environ: Mapping[str, str]) -> bool:
    """Tell whether systemd or a container platform has put a file where it is."""
    folders = [*PLATFORM, *filter(None, [environ.get(CREDENTIALS)])]
    return any(Path(file).is_relative_to(folder) for folder in folders)


def _mode(file: str) -> int:
    """Return the mode of a file, 0 where that cannot be said: whoever reads it says why."""
    try:
        return Path(file).stat().st_mode
    except OSError:
        return 0
