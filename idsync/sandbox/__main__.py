"""`python -m idsync.sandbox`: a sandbox in the foreground."""

from __future__ import annotations

import argparse
import sys

from idsync.sandbox.options import BROADCASTS, DIALECTS, Options
from idsync.sandbox.server import run


def main(argv: list[str] | None = None) -> int:
    try:
        options = _options(_parser().parse_args(argv))
        run(options, lambda sandbox: _announce(sandbox.url, options))
    except (ValueError, OSError) as problem:
        sys.stderr.write(f"idsync.sandbox: {problem}\n")
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m idsync.sandbox", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="loopback only")
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--dialect", choices=DIALECTS, default="litellm")
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--cache-ttl", type=float, default=60.0, help="seconds a replica trusts a key")
    parser.add_argument("--broadcast", choices=BROADCASTS, default="redis")
    parser.add_argument("--no-fence", action="store_true", help="scim_active is stored without effect")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds added to management answers")
    return parser


def _options(given: argparse.Namespace) -> Options:
    return Options(
        dialect=given.dialect,
        replicas=given.replicas,
        cache_ttl=given.cache_ttl,
        broadcast=given.broadcast,
        fence=not given.no_fence,
        latency=given.latency,
        host=given.host,
        port=given.port,
    )


def _announce(url: str, options: Options) -> None:
    sys.stdout.write(f"{url} admin key {options.admin_key}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
