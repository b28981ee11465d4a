"""`idsync completion`."""

from __future__ import annotations

import click

VARIABLE = "_IDSYNC_COMPLETE"
"""What click looks for, from the program's name."""
WHERE = {
    "bash": "~/.local/share/bash-completion/completions/idsync",
    "zsh": "a folder of $fpath, as _idsync",
    "fish": "~/.config/fish/completions/idsync.fish",
}


@click.command(epilog="  ".join(f"{shell}: {place}." for shell, place in WHERE.items()))
@click.argument("shell", type=click.Choice(sorted(WHERE)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> int:
    """Print the completion script for SHELL; put it where that shell looks."""
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell)
    if made is None:
        msg = f"no completion for {shell}"
        raise click.UsageError(msg, ctx)
    script = made(ctx.find_root().command, {}, "idsync", VARIABLE)
    click.echo(script.source_template % script.source_vars())
    return 0
