"""`idsync db`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from idsync.cli.client import JSON, say, settings, show, who
from idsync.errors import UsageError

if TYPE_CHECKING:
    from idsync.config import Config
    from idsync.store.copying import Copied, Step


@click.group()
def db() -> None:
    """Back up, check and upgrade the store while the daemon runs; restore or move it while none does."""


@db.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.pass_context
def backup(ctx: click.Context, file: Path) -> int:
    """Copy the store to FILE, consistent, online. Of PostgreSQL: says which pg_dump does it."""
    from idsync.store.sqlite import backup as copy

    url = settings(ctx).store.url
    _refuse_shared(url, "backed up", f"pg_dump --format=custom --file={shlex.quote(str(file))} {shlex.quote(url)}")
    copy(url, file)
    say(f"{file}: {file.stat().st_size} bytes")
    return 0


@db.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--yes", is_flag=True, help="Do not ask.")
@JSON
@click.pass_context
def restore(ctx: click.Context, file: Path, yes: bool, as_json: bool) -> int:
    """Put the backup FILE in the place of the store; the old store is kept beside it. No daemon may run.

    What was restored is frozen: nothing is granted until `idsync thaw`, because the backup does not know who left since.
    Of PostgreSQL: says which pg_restore does it.
    """
    from idsync.clock import SystemClock, rfc3339
    from idsync.store.restoring import restore as put_back

    config = settings(ctx)
    url = shlex.quote(config.store.url)
    how = f"pg_restore --clean --if-exists --single-transaction --no-owner --dbname={url} {shlex.quote(str(file))}"
    _refuse_shared(
        config.store.url,
        "restored",
        how,
        ", with every daemon stopped, then before any of them starts: idsync freeze --reason 'restored from a backup'",
    )
    if sys.stdin.isatty() and not yes:
        click.confirm(f"Put {file} in the place of {config.store.url}?", abort=True, err=True)
    done = put_back(config.store.url, file, at=SystemClock().now(), by=who())
    until = rfc3339(done.known_until) if done.known_until is not None else None
    kept = str(done.kept) if done.kept is not None else None
    if as_json:
        told = {"known_until": until, "audit_entries": done.audit_entries, "audit_head": done.audit_head, "kept": kept}
        show({**told, "frozen": True})
        return 0
    say(f"restored; known until {until or 'nothing'}; audit entries {done.audit_entries}, head {done.audit_head}")
    if kept:
        say(f"the old store is {kept}")
    say(
        "frozen. Start the daemon, `idsync revoke` whoever left since then, let the identity provider send everything again,"
    )
    say("look at `idsync reconcile --dry-run`, then: idsync thaw --reason TEXT")
    return 0


@db.command()
@JSON
@click.pass_context
def check(ctx: click.Context, as_json: bool) -> int:
    """Check the store: SQLite's pages and version; of PostgreSQL its settings, schema and unlinked audit entries."""
    from idsync.app.parts import store_password
    from idsync.store.opening import inspect

    config = settings(ctx)
    report = inspect(config.store.url, store_password(config))
    if as_json:
        show({"sound": report.sound, "lines": list(report.lines)})
        return 0 if report.sound else 1
    for line in report.lines:
        say(line)
    return 0 if report.sound else 1


@db.command()
@click.argument("source", metavar="FROM_URL")
@click.argument("target", metavar="TO_URL")
@JSON
@click.pass_context
def copy(ctx: click.Context, source: str, target: str, as_json: bool) -> int:
    """Move the installation from one store into another, like sqlite:////var/lib/idsync/idsync.db into
    postgresql://idsync@db/idsync, or back. No daemon may run on either of them.

    TO_URL has no content yet. Every table is read back and compared, the audit trail goes on where it was. When the copy
    is cut off, run it again: it begins anew, and no daemon starts on what it left. At the end the old store is frozen, and
    kept. Passwords come from store.password_file, IDSYNC_STORE__PASSWORD, PGPASSWORD or ~/.pgpass, never from an address.
    """
    from idsync.clock import SystemClock
    from idsync.config import store_problems
    from idsync.store.moving import move
    from idsync.store.opening import shown
    from idsync.words import count

    config = settings(ctx)
    for what, url in (("FROM_URL", source), ("TO_URL", target)):
        for _, problem in store_problems(url):
            msg = f"{what} {problem}"
            raise UsageError(msg)
    passwords = (_password(config, source), _password(config, target))
    at, tell = SystemClock().now(), _teller()
    done = move(source, target, passwords=passwords, at=at, by=who(), tell=tell)
    if as_json:
        show({"from": shown(source), "to": shown(target), **_copied(done)})
        return 0
    say(f"{count(done.rows, 'row')} of {count(len(done.tables), 'table')} in {shown(target)}, read back and equal")
    broken = f"the chain breaks at entry {done.broken}, as it did before" if done.broken else "chain whole"
    say(f"audit trail: {count(done.audit_entries, 'entry', 'entries')}, {broken}; head {done.audit_head}")
    say("the old store is kept, and frozen; to go back to it: idsync thaw --reason TEXT")
    say(f"now set store.url to the new one, and start the daemon: {shown(target)}")
    return 0


def _refuse_shared(url: str, what: str, how: str, then: str = "") -> None:
    """Name the tool of PostgreSQL's own that does it; the address has no password, which it finds as libpq does.

    Raises:
        UsageError: the store is a database.
    """
    from idsync.store.address import is_shared

    if is_shared(url):
        msg = f"a PostgreSQL store is {what} with PostgreSQL's own tools{then}; the password from PGPASSWORD or ~/.pgpass: {how}"
        raise UsageError(msg)


def _password(config: Config, url: str) -> Callable[[], str] | None:
    """Return the configured password for the address it is configured for; other addresses have libpq's own ways."""
    from idsync.app.parts import store_password
    from idsync.store.address import is_shared
    from idsync.store.opening import shown

    mine = config.store.url
    return store_password(config) if is_shared(url) and (not is_shared(mine) or shown(mine) == shown(url)) else None


def _copied(done: Copied) -> dict[str, object]:
    tables = {name: {"rows": one.rows, "sha256": one.sha256} for name, one in done.tables.items()}
    trail = {"audit_entries": done.audit_entries, "audit_head": done.audit_head, "audit_breaks_at": done.broken}
    return {"rows": done.rows, **trail, "tables": tables}


def _teller() -> Callable[[Step], None]:
    """Return what says how far it is: one line that changes on a terminal, else one for each table that has rows."""
    terminal = sys.stderr.isatty()

    def tell(step: Step) -> None:
        line = f"{step.doing} {step.table}: {step.done:,} of {step.of:,}"
        over = step.done >= step.of
        if terminal:
            click.echo(f"\r\033[K{line}", err=True, nl=bool(over and step.of))
        elif over and step.of:
            say(line, err=True)

    return tell


@db.command()
@click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing.")
@click.option("--post", is_flag=True, help="Also take away what no replica of an older release uses any more.")
@JSON
@click.pass_context
def migrate(ctx: click.Context, dry_run: bool, post: bool, as_json: bool) -> int:
    """Bring the store's schema up to this release; the first start would do it too.

    On a shared database this only adds, while replicas of the release before go on; --post takes away what only they
    used, and is refused with exit code 7 as long as one of them is there.
    """
    from idsync.app.parts import store_password
    from idsync.errors import StoreError
    from idsync.store.opening import migrated, stands

    config = settings(ctx)
    where = (config.store.url, store_password(config))
    before = stands(*where)
    if before.outgrown:
        raise StoreError(before.outgrown)
    wanted = [*before.missing, *(before.post if post else ())]
    applied = [] if dry_run else migrated(*where, post=post)
    after = before if dry_run else stands(*where)
    if as_json:
        show({"applied": applied, "missing": list(after.missing), "post": list(after.post), "newer": list(after.newer)})
    else:
        for name in wanted if dry_run else applied:
            say(f"{'would apply' if dry_run else 'applied'} {name}")
        if not (wanted if dry_run else applied):
            say("the schema is this release's")
        if after.post and not (dry_run and post):
            say(
                f"left for later: {', '.join(after.post)}; once every replica is of this release: idsync db migrate --post"
            )
    return 3 if dry_run and wanted else 0
