"""docs/exit-codes-and-events.md: what a script, an alarm or an auditor relies on, read from the code that does it.

Exit codes come from the classes in idsync/errors.py. Audit actions and log events are literals at the calls that write
them; what they mean comes from the tables in docs/operations.md, which tests keep complete.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from idsync import errors
from idsync.teams import setting

ROOT = Path(__file__).resolve().parent.parent
LEVELS = ("debug", "info", "warning", "error", "critical", "exception")
ACTION = re.compile(r"[a-z_]+\.[a-z_]+")
PLAIN = frozenset({"frozen", "thawed"})
WRITERS = frozenset({"note", "_note", "_audit", "_tell"})
"""Functions that take an action as an argument and write it to the trail."""
FURTHER = {
    4: "[a hold fired](runbooks.md#a-hold-fired)",
    5: "[a key is still alive](runbooks.md#a-key-is-still-alive-exit-code-5)",
    6: "[the identity provider is down](runbooks.md#the-identity-provider-is-down)",
    7: "[exit code 7](runbooks.md#another-process-holds-the-store-exit-code-7)",
}
"""Where it says what to do."""
HEAD = """# Exit codes and events

What scripts, alarms and auditors may rely on.

## Exit codes

Several apply: 5 before 4 before 6 before 1 before 3.

| code | meaning | errors |
|---|---|---|
"""
AUDIT = """
## The audit trail

`idsync audit tail --json` has `seq`, `at`, `actor`, `action`, `subject`, `detail`, `prev` and `hash`. The actor is a source
and its token (`okta-push/9f31c2aa`), a local user (`cli/ada`), an operator at the status page (`operator/ada`), or a part of idsync that nobody asked.
What each action means: [the audit trail](operations.md#the-audit-trail).

| action | written in |
|---|---|
"""
LOGS = """
## Log events

JSON lines on stderr: `ts`, `level`, `event`, and what belongs to the event. What each means: [logs](operations.md#logs).

| event | level |
|---|---|
"""


def page(made: str) -> str:
    """Return docs/exit-codes-and-events.md; `made` is the line that says so."""
    meanings = {code: ": ".join(filter(None, [said, FURTHER.get(code)])) for code, said in errors.EXIT_CODES.items()}
    exits = [f"| {code} | {meaning} | {_errors(code)} |" for code, meaning in meanings.items()]
    trail = [
        f"| `{action}` | {', '.join(f'`{room}`' for room in sorted(rooms))} |" for action, rooms in actions().items()
    ]
    logs = [f"| `{event}` | {', '.join(sorted(levels, key=LEVELS.index))} |" for event, levels in events().items()]
    parts = [made, "", HEAD + "\n".join(exits), AUDIT + "\n".join(trail), LOGS + "\n".join(logs)]
    return "\n".join(parts) + "\n"


def _errors(code: int) -> str:
    """Name the classes that end a command with a code; every class has to have a meaning here."""
    named: dict[int, list[str]] = {}
    for name, found in vars(errors).items():
        if isinstance(found, type) and issubclass(found, errors.IdsyncError):
            named.setdefault(found.exit_code, []).append(name)
    unknown = set(named) - set(errors.EXIT_CODES)
    if unknown:
        raise SystemExit(f"EXIT_CODES in idsync/errors.py does not say what {unknown} mean")
    return ", ".join(f"`{name}`" for name in named.get(code, []))


def _modules() -> Iterator[tuple[str, ast.Module]]:
    """Yield every module of the package but the stand-ins, with the room it is in."""
    for path in sorted((ROOT / "idsync").rglob("*.py")):
        parts = path.relative_to(ROOT / "idsync").with_suffix("").parts
        if not {"sandbox", "demo"} & set(parts):
            yield parts[0], ast.parse(path.read_text("utf-8"))


def _calls(module: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """Yield every call by the name of what is called."""
    for node in ast.walk(module):
        if isinstance(node, ast.Call):
            yield getattr(node.func, "attr", "") or getattr(node.func, "id", ""), node


def actions() -> dict[str, set[str]]:
    """Return every audit action with the rooms that write it."""
    found: dict[str, set[str]] = {}
    for room, module in _modules():
        named = _assigned(module)
        for name, call in _calls(module):
            given = [word.value for word in call.keywords if word.arg == "action"]
            given += [*call.args[:5], *(word.value for word in call.keywords)] if name in WRITERS else []
            for action in (text for value in given for text in _texts(value, named)):
                if ACTION.fullmatch(action) or action in PLAIN:
                    found.setdefault(action, set()).add(room)
    for action in (*setting.DONE, "alerts.set"):
        found.setdefault(action, set()).add("reconcile")
    return dict(sorted(found.items()))


def _assigned(module: ast.Module) -> dict[str, list[ast.expr]]:
    """Return what is assigned to each plain name of a module."""
    found: dict[str, list[ast.expr]] = {}
    for node in ast.walk(module):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found.setdefault(node.targets[0].id, []).append(node.value)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
            parts = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
            for target, value in zip(node.targets[0].elts, parts, strict=False):
                found.setdefault(getattr(target, "id", ""), []).append(value)
    return found


def _texts(value: ast.expr, named: dict[str, list[ast.expr]]) -> Iterator[str]:
    """Yield the texts a value may be: a literal, either side of an `a if b else c`, what a name was set to."""
    if isinstance(value, ast.IfExp):
        yield from _texts(value.body, named)
        yield from _texts(value.orelse, named)
    elif isinstance(value, ast.Constant) and isinstance(value.value, str):
        yield value.value
    elif isinstance(value, ast.Name):
        for one in named.get(value.id, []):
            if not isinstance(one, ast.Name):
                yield from _texts(one, named)


def events() -> dict[str, set[str]]:
    """Return every log event with its levels."""
    found: dict[str, set[str]] = {}
    for _, module in _modules():
        named, calls = _assigned(module), list(_calls(module))
        for level, value in _logged(module):
            for event in _texts(value, named):
                found.setdefault(event, set()).add(level)
        for teller, levels in _tellers(module).items():
            given = [value for name, call in calls if name == teller for value in _arguments(call)]
            for event in (text for value in given for text in _texts(value, named) if ACTION.fullmatch(text)):
                found.setdefault(event, set()).update(levels)
    return dict(sorted(found.items()))


def _logged(where: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Yield the level and the event of every call that logs."""
    for node in ast.walk(where):
        if isinstance(node, ast.Call) and node.args:
            either = (node.func.body, node.func.orelse) if isinstance(node.func, ast.IfExp) else (node.func,)
            for called in either:
                ours = isinstance(called, ast.Attribute) and getattr(called.value, "id", "") == "log"
                if ours and called.attr in LEVELS:
                    yield "error" if called.attr == "exception" else called.attr, node.args[0]


def _tellers(module: ast.Module) -> dict[str, set[str]]:
    """Return the functions that log an event which they are given, with the levels."""
    found: dict[str, set[str]] = {}
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            given = {one.arg for one in (*node.args.args, *node.args.kwonlyargs)}
            for level, value in _logged(node):
                if isinstance(value, ast.Name) and value.id in given:
                    found.setdefault(node.name, set()).add(level)
    return found


def _arguments(call: ast.Call) -> list[ast.expr]:
    return [*call.args, *(word.value for word in call.keywords)]
