"""A real LiteLLM proxy for the tests in tests/litellm: `make litellm`.

Everything is made here and taken down again: the proxy's packages in .venv-litellm (kept for the next time), Prisma's
query engine from the npm registry (engine.cjs says why), a PostgreSQL cluster of its own in a temporary folder, and two
processes of the proxy with a master key of this run, all on loopback. What cannot be done here skips the whole with one
sentence, and exit code 0; a test that fails is exit code 1.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
VENV = Path(os.environ.get("LITELLM_VENV", ROOT / ".venv-litellm")).absolute()
LOCK = ROOT / "requirements" / "litellm.lock"
NODE = VENV / "engine"
ENGINE = NODE / "engine.cjs"

PRISMA = {
    "PRISMA_VERSION": "5.17.0",
    "PRISMA_EXPECTED_ENGINE_VERSION": "393aa359c9ad4a4bb28630fb5613f9c281cde053",
    "PRISMA_BINARY_CACHE_DIR": str(NODE),
    "PRISMA_QUERY_ENGINE_BINARY": str(ENGINE),
    "PRISMA_SCHEMA_ENGINE_BINARY": str(ENGINE),  # never asked: the SQL of the migrations is run as it is
    "CHECKPOINT_DISABLE": "1",
}
"""package.json has the same release. With an engine and a version given, nothing of Prisma's is downloaded."""
PROCESSES = 2
CACHE = 3
"""Seconds for which a process remembers a key; a proxy's default is 60, and a drill would wait for them."""
CONFIG = f"""
model_list:
  - model_name: canned
    litellm_params: {{model: openai/canned, api_key: none, api_base: "http://127.0.0.1:9", mock_response: nothing}}
general_settings: {{disable_spend_logs: true, user_api_key_cache_ttl: {CACHE}}}
litellm_settings: {{telemetry: false}}
"""
USER = "litellm"
Line = list[str | Path]


class Skip(Exception):
    """A step cannot be done on this machine: which one, and why."""


def main(words: Sequence[str]) -> int:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    try:
        with ExitStack() as stack:
            look_for_programs()
            step("installing LiteLLM", install_packages)
            step("installing Prisma's query engine", install_engine)
            step("generating Prisma's client", generate_client)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="idsync-litellm-")))
            database = stack.enter_context(postgres(folder))
            step("making the proxy's tables", make_tables, database)
            key = f"sk-{secrets.token_urlsafe(24)}"
            urls = stack.enter_context(proxies(folder, database, key))
            say(f"LiteLLM {version()} answers at {' and '.join(urls)}")
            return test(urls, key, words)
    except Skip as why:
        say(f"skipped: {why}")
        return 0


def stop(number: int, _: object) -> None:
    """End on the way out what was started here; a signal that comes twice must not cut that short."""
    for other in (signal.SIGTERM, signal.SIGINT):
        signal.signal(other, signal.SIG_IGN)
    sys.exit(128 + number)


def step(doing: str, work: Callable[..., None], *given: object) -> None:
    say(f"{doing} ...")
    work(*given)


def say(text: str) -> None:
    print(f"make litellm: {text}", flush=True)


# -- what is installed ----------------------------------------------------------------------------------------------


def look_for_programs() -> None:
    """Look for what has to be on the machine, before anything is installed."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise Skip(f"Prisma needs {program}, which is not installed (Debian: apt-get install nodejs npm)")
    postgres_programs()
    postgres_user()


def install_packages() -> None:
    """Install the proxy's packages, once for a lock."""
    if stamped("packages", LOCK):
        return
    if VENV.is_dir() and any(VENV.iterdir()) and not (VENV / "pyvenv.cfg").exists():
        raise Skip(f"{VENV} is no virtual environment, and is left alone")
    shutil.rmtree(VENV, ignore_errors=True)
    done("making a virtual environment", [sys.executable, "-m", "venv", VENV], limit=120)
    pip: Line = [
        VENV / "bin" / "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--require-hashes",
    ]
    done("installing LiteLLM from the package index", [*pip, "-r", LOCK], limit=1200)
    stamp("packages", LOCK)


def install_engine() -> None:
    """Install Prisma's command line and query engine, once for a lock; no script of a package is run."""
    NODE.mkdir(exist_ok=True)
    for name in ("package.json", "package-lock.json", "engine.cjs"):
        shutil.copy(HERE / name, NODE)
    ENGINE.chmod(0o755)
    if not stamped("engine", NODE / "package-lock.json"):
        npm: Line = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", NODE]
        done("installing Prisma's query engine from the npm registry", npm, limit=600)
        stamp("engine", NODE / "package-lock.json")


def generate_client() -> None:
    schema = packages() / "litellm" / "proxy" / "schema.prisma"
    if not stamped("client", schema):
        done("generating Prisma's client", [VENV / "bin" / "prisma", "generate", "--schema", schema], limit=300)
        stamp("client", schema)


def stamped(name: str, of: Path) -> bool:
    """Tell whether this was done with the same file before."""
    mark = VENV / f".{name}"
    return mark.exists() and mark.read_text() == digest(of)


def stamp(name: str, of: Path) -> None:
    (VENV / f".{name}").write_text(digest(of))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def packages() -> Path:
    found = sorted((VENV / "lib").glob("python*/site-packages"))
    if not found:
        raise Skip(f"{VENV} has no packages; remove it and try again")
    return found[0]


def version() -> str:
    return next(packages().glob("litellm-*.dist-info")).name.removeprefix("litellm-").removesuffix(".dist-info")


# -- the database ---------------------------------------------------------------------------------------------------


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A cluster of its own, in a folder that goes away, reached over loopback alone; yield its address."""
    programs, who = postgres_programs(), postgres_user()
    home = folder / "postgres"
    home.mkdir(mode=0o700)
    folder.chmod(0o711)
    if who is not None:
        os.chown(home, who.pw_uid, who.pw_gid)
    password, port = secrets.token_urlsafe(16), free_port()
    secret = home / "password"
    secret.write_text(password)
    if who is not None:
        os.chown(secret, who.pw_uid, who.pw_gid)
    say("starting PostgreSQL ...")
    initdb: Line = [programs / "initdb", "-D", home / "data", "-U", USER, "-A", "scram-sha-256", "--pwfile", secret]
    done("making a PostgreSQL cluster", [*initdb, "-E", "UTF8", "--locale=C", "--no-sync"], limit=120, who=who, at=home)
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={home} -c fsync=off"
    server: Line = [programs / "pg_ctl", "-D", home / "data", "-l", home / "log", "-w"]
    done("starting PostgreSQL", [*server, "-o", options, "start"], limit=120, who=who, at=home)
    try:
        address = f"postgresql://{USER}:{password}@127.0.0.1:{port}/{USER}"
        sql(address.removesuffix(USER) + "postgres", f"CREATE DATABASE {USER}")
        yield address
    finally:
        subprocess.run([*map(str, server), "-m", "immediate", "stop"], capture_output=True, cwd=home, **identity(who))


def postgres_programs() -> Path:
    """Return the folder with the server's programs; Debian keeps them off the path."""
    on_path = shutil.which("initdb")
    folders = [Path(on_path).resolve().parent] if on_path else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in folders:
        if all((folder / program).exists() for program in ("initdb", "pg_ctl", "postgres", "psql")):
            return folder
    raise Skip("LiteLLM needs PostgreSQL, which is not installed (Debian: apt-get install postgresql)")


def postgres_user() -> pwd.struct_passwd | None:
    """Return who the server has to be: PostgreSQL refuses to be root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise Skip("PostgreSQL does not run as root, and there is no user postgres or nobody to run it as")


def identity(who: pwd.struct_passwd | None) -> dict[str, Any]:
    if who is None:
        return {}
    return {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []}


def make_tables(database: str) -> None:
    """Run the SQL of LiteLLM's own migrations; their order is that of their names."""
    folders = sorted((packages() / "litellm_proxy_extras" / "migrations").glob("*/migration.sql"))
    if not folders:
        raise Skip("LiteLLM's package has no migrations where they used to be")
    sql(database, "\n".join(path.read_text() for path in folders))


def sql(database: str, text: str) -> None:
    parts = urlsplit(database)
    where = ["-h", parts.hostname or "", "-p", str(parts.port), "-U", parts.username or "", "-d", parts.path.strip("/")]
    psql: Line = [postgres_programs() / "psql", "-q", "-X", "-v", "ON_ERROR_STOP=1", *where]
    done("making the proxy's tables", psql, limit=300, said=text, secret={"PGPASSWORD": parts.password or ""})


# -- the proxy ------------------------------------------------------------------------------------------------------


@contextmanager
def proxies(folder: Path, database: str, key: str) -> Iterator[list[str]]:
    """Start the proxy's processes; yield their addresses once all of them answer."""
    config = folder / "proxy.yaml"
    config.write_text(CONFIG)
    environment = {
        **clean_environment(),
        "HOME": str(folder),
        "DATABASE_URL": f"{database}?connection_limit=10",
        "LITELLM_MASTER_KEY": key,
        "LITELLM_SALT_KEY": f"sk-{secrets.token_urlsafe(24)}",
        "DISABLE_SCHEMA_UPDATE": "true",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    ports = [free_port() for _ in range(PROCESSES)]
    say(f"starting {PROCESSES} processes of the proxy ...")
    running: list[subprocess.Popen[bytes]] = []
    try:
        for port in ports:
            line: Line = [VENV / "bin" / "litellm", "--config", config, "--host", "127.0.0.1", "--port", str(port)]
            with (folder / f"proxy-{port}.log").open("wb") as log:
                process = subprocess.Popen(
                    list(map(str, line)), env=environment, cwd=folder, stdout=log, stderr=log, start_new_session=True
                )
            running.append(process)
        for process, port in zip(running, ports, strict=True):
            wait_until_healthy(process, port, folder / f"proxy-{port}.log")
        yield [f"http://127.0.0.1:{port}" for port in ports]
    finally:
        for process in running:
            end(process)


def wait_until_healthy(process: subprocess.Popen[bytes], port: int, log: Path, seconds: float = 180.0) -> None:
    end_of_patience = time.monotonic() + seconds
    while time.monotonic() < end_of_patience:
        if process.poll() is not None:
            raise Skip(f"the proxy did not start: {last_line(log.read_text())}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/readiness", timeout=5) as answer:
                if b'"connected"' in answer.read():
                    return
            time.sleep(0.2)
        except OSError:  # not yet
            time.sleep(0.2)
    raise Skip(f"the proxy had no database after {seconds:g} s: {last_line(log.read_text())}")


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and whatever it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            continue


def test(urls: list[str], key: str, words: Sequence[str]) -> int:
    line = [sys.executable, "-m", "pytest", "-q", "-rs", "--timeout", "300", "tests/litellm", *words]
    environment = {**os.environ, "IDSYNC_LITELLM": ",".join(urls), "IDSYNC_LITELLM_KEY": key}
    return subprocess.run(line, cwd=ROOT, env=environment).returncode


# -- running things ---------------------------------------------------------------------------------------------------


def done(
    doing: str,
    line: Line,
    *,
    limit: float,
    who: pwd.struct_passwd | None = None,
    at: Path | None = None,
    said: str | None = None,
    secret: Mapping[str, str] | None = None,
) -> None:
    """Run a program to its end.

    Raises:
        Skip: it failed, or took too long.
    """
    try:
        ended = subprocess.run(
            list(map(str, line)),
            input=said,
            stdin=None if said is not None else subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=limit,
            env={**clean_environment(), **(secret or {})},
            cwd=at,
            **identity(who),
        )
    except subprocess.TimeoutExpired:
        raise Skip(f"{doing} took more than {limit:g} s") from None
    except OSError as error:
        raise Skip(f"{doing} could not begin: {error}") from None
    if ended.returncode != 0:
        raise Skip(f"{doing} failed: {last_line(ended.stderr or ended.stdout)}")


def clean_environment() -> dict[str, str]:
    """Return the environment without what would turn these programs elsewhere."""
    ours = ("IDSYNC_", "LITELLM_", "PG", "DATABASE_URL", "PRISMA_", "VIRTUAL_ENV", "PYTHONPATH")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, **PRISMA, "PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"}


def last_line(text: str) -> str:
    """Return the last error a program told of, else what it said last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "error:" in line.lower()]
    return (errors or lines or ["it said nothing"])[-1][:300]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
