"""`python -m idsync` and the `idsync` command."""

from __future__ import annotations

from idsync.cli.main import main

if __name__ == "__main__":
    main()
