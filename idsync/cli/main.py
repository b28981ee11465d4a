"""The `idsync` command: global options, commands loaded when they are used, errors as sentences with exit codes."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from idsync import __version__
from idsync.cli.client import say
from idsync.errors import EXIT_CODES, ConfigError, IdsyncError

COMMANDS = {
    "serve": ("serve", "Run the daemon: SCIM endpoint, scheduler, engine."),
    "reconcile": ("reconcile", "One full pass now: teams, members, roles, departures."),
    "revoke": ("revoke", "End everything a person holds, by hand; works with the IdP down."),
    "restore": ("restore", "Lift the ban that `revoke` has set."),
    "verify": ("verify", "Ask the gateway again: does anything of a departed person still live?"),
    "drill": ("drill", "A canary through the whole chain, its own key tried on every replica until refused."),
    "doctor": ("doctor", "What this gateway can do, and how long a deleted key may live there."),
    "status": ("status", "Sources, jobs, holds, conflicts, the last pass, time to revoke."),
    "departures": ("departures", "The ledger of departures and their receipts."),
    "spend": ("spend", "Spend by team against its budget, and what leavers spent after access had ended."),
    "keys": ("keys", "List, issue and rotate keys; those that work on although somebody who knows them has left."),
    "sinks": ("sinks", "The places that new secrets are delivered to: try them without a real key."),
    "holds": ("holds", "What a guard keeps back until a person decides."),
    "freeze": ("freeze", "Stop polled departures and grants; revocations asked for go on."),
    "thaw": ("thaw", "Let polled departures and grants go on."),
    "explain": ("explain", "Which record, rule, group and source give or took each thing."),
    "drift": ("drift", "What the gateway has that no source accounts for; changes nothing."),
    "teams": ("teams", "Teams at the gateway: where each stands, and the end of one."),
    "groups": ("groups", "Groups, and the teams and roles they are bound to."),
    "link": ("link", "Say which gateway account is a person's."),
    "unlink": ("unlink", "Forget such a link."),
    "token": ("token", "Bearer tokens of sources and operators."),
    "notify": ("notify", "Who is told what; try it with a test message."),
    "audit": ("audit", "The hash-chained audit trail."),
    "evidence": ("evidence", "What an auditor asks for: leavers of a period, and how each one's access ended."),
    "config": ("config", "Check and show the configuration, or write one of what the gateway has."),
    "db": ("db", "Back up, check and restore the store."),
    "completion": ("completion", "Completion of commands and options for a shell."),
    "sandbox": ("sandbox", "A stand-in gateway on loopback, to try things out."),
    "demo": ("demo", "Sandbox, daemon, and a scripted joiner, mover and leaver."),
}


class LazyGroup(click.Group):
    """Imports a command's module when the command is used, so that `--help` stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"idsync.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; one that is not there is told with those that look like it."""
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:
            raise click.NoSuchCommand(error.command_name, possibilities=COMMANDS, ctx=ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


CODES = "; ".join(f"{code} {meaning.replace('; ', ', ').replace('`', '')}" for code, meaning in EXIT_CODES.items())
HELP = f"""When somebody leaves, every gateway key they hold stops working at once, with proof.

Exit codes: {CODES}. Several apply: 5 before 4 before 6 before 1 before 3.
"""


@click.group(cls=LazyGroup, help=HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-c", "--config", metavar="FILE", help="Configuration file (else IDSYNC_CONFIG, ./config.toml, /etc/idsync)."
)
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True
)
@click.option("--log-format", type=click.Choice(["json", "text"]), help="Default: text on a terminal, else json.")
@click.option("--no-color", is_flag=True, envvar="NO_COLOR", help="No colours (also NO_COLOR).")
@click.version_option(__version__, prog_name="idsync")
@click.pass_context
def cli(ctx: click.Context, config: str | None, log_level: str, log_format: str | None, no_color: bool) -> None:
    """Keep what every command needs."""
    ctx.obj = {
        "config": config,
        "level": log_level,
        "format": log_format,
        "color": not no_color and sys.stderr.isatty(),
    }


def main() -> None:
    """Run the command line; every error becomes a sentence on stderr and an exit code."""
    try:
        result: Any = cli.main(prog_name="idsync", standalone_mode=False)
    except click.exceptions.Abort:
        say("idsync: stopped", err=True)
        sys.exit(130)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(2)
    except click.ClickException as error:
        where = getattr(error, "ctx", None)
        say(f"idsync: {error.format_message()} Try: {where.command_path if where else 'idsync'} --help", err=True)
        sys.exit(2)
    except IdsyncError as error:
        tell(error)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    sys.exit(result if isinstance(result, int) else 0)


def tell(error: IdsyncError) -> None:
    """Print an error for a person: what is wrong and, where it is known, what to do."""
    if isinstance(error, ConfigError):
        say("idsync: the configuration cannot be used", err=True)
        for path, what in error.problems:
            say(f"  {path}: {what}", err=True)
        return
    say(f"idsync: {error}", err=True)
