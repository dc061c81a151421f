"""`stockade up`, `serve`, `status` and `ca`: the server on this machine."""

from __future__ import annotations

import asyncio
import json
import logging.config
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict
from ipaddress import ip_address
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from stockade import __version__
from stockade.cli import outcome
from stockade.cli.account import OutputFormat
from stockade.cli.context import DataDir, err, out, print_columns, read_settings, running_settings
from stockade.kernel.clock import SimulatedClock, clock_of, iso
from stockade.kernel.faults import Fault
from stockade.settings import DATA_DIR_VARIABLE, Settings

if TYPE_CHECKING:
    from stockade.serve.private_states import ListenerState

_PANEL = "Listeners"
LogLevel = Literal["debug", "info", "warning", "error"]
Host = Annotated[
    str | None, typer.Option("--host", help="The address to listen on. [default: 127.0.0.1]", rich_help_panel=_PANEL)
]
DataPort = Annotated[
    int | None, typer.Option("--data-port", min=1, max=65535, help="[default: 8443]", rich_help_panel=_PANEL)
]
ControlPort = Annotated[
    int | None, typer.Option("--control-port", min=1, max=65535, help="[default: 8444]", rich_help_panel=_PANEL)
]
MetadataPort = Annotated[
    int | None,
    typer.Option(
        "--metadata-port",
        min=1,
        max=65535,
        help="Plain HTTP, on 127.0.0.1 only. [default: 8445]",
        rich_help_panel=_PANEL,
    ),
]
WebSocketPort = Annotated[
    int | None,
    typer.Option(
        "--websocket-port",
        min=0,
        max=65535,
        help="The data plane's WebSockets; 0: none. [default: 8447]",
        rich_help_panel=_PANEL,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=0,
        max=64,
        help="Data-plane processes. [default: one per core, at most 4]",
        rich_help_panel=_PANEL,
    ),
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        envvar="STOCKADE_DATABASE_URL",
        help="PostgreSQL, e.g. postgresql://user@host/stockade; better in the environment when it holds a password.",
        show_default=False,
        show_envvar=True,
    ),
]
Simulation = Annotated[
    bool,
    typer.Option(
        "--simulation",
        help="For rehearsals: make a data directory whose time can be moved with `stockade clock`. Only when it is made.",
    ),
]
Level = Annotated[LogLevel, typer.Option("--log-level", help="JSON lines on stderr, from this level on.")]


def up(
    host: Host = None,
    data_port: DataPort = None,
    control_port: ControlPort = None,
    metadata_port: MetadataPort = None,
    websocket_port: WebSocketPort = None,
    workers: Workers = None,
    database_url: DatabaseUrl = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing when started.")] = False,
    simulation: Simulation = False,
    log_level: Level = "warning",
    data_dir: DataDir = None,
) -> None:
    """Set up what is missing, start the server, print how to use it, and run until Ctrl-C."""
    from stockade.cli.banner import print_banner

    overrides = _overrides(host, data_port, control_port, metadata_port, websocket_port, workers)
    settings = _settings(overrides, database_url)
    say = (lambda _: None) if quiet else (lambda step: err.print(f"[dim]{step}…[/]"))

    def ready() -> None:
        if not quiet:
            print_banner(settings)

    raise typer.Exit(_serve(settings, overrides, log_level, say, ready, simulation=simulation))


def serve(
    host: Host = None,
    data_port: DataPort = None,
    control_port: ControlPort = None,
    metadata_port: MetadataPort = None,
    websocket_port: WebSocketPort = None,
    workers: Workers = None,
    database_url: DatabaseUrl = None,
    simulation: Simulation = False,
    log_level: Level = "info",
    data_dir: DataDir = None,
) -> None:
    """Like `up`, for a service manager: no screen, and the log from level info on."""
    overrides = _overrides(host, data_port, control_port, metadata_port, websocket_port, workers)
    settings = _settings(overrides, database_url)
    raise typer.Exit(_serve(settings, overrides, log_level, lambda _: None, lambda: None, simulation=simulation))


def broker(log_level: Level = "info", data_dir: DataDir = None) -> None:
    """Run the key broker alone, for a service manager: as a user of its own, on the socket that keys.broker_socket names."""
    from stockade.serve import broker as process

    configured = read_settings()
    os.environ[DATA_DIR_VARIABLE] = str(configured.data_dir)
    try:
        process.run_alone(configured, log_level)
    except ValueError as failure:
        err.print(str(failure), markup=False)
        raise typer.Exit(outcome.FAILED) from failure


def status(form: OutputFormat = "table", data_dir: DataDir = None) -> None:
    """Say whether the server runs, where it listens, and what it is running on."""
    from stockade.serve import private_states, running

    settings = running_settings()
    state = running.status(settings)
    facts: dict[str, Any] = {"running": state is not None, "version": __version__, "dataDir": str(settings.data_dir)}
    if state is not None:
        if state.get("sealed"):
            facts["sealed"] = True
        facts |= {"pid": state["pid"], "serverVersion": state["version"], "arm": settings.arm_endpoint}
        facts |= {"data": settings.account_endpoint(None).rstrip("/"), "metadata": settings.metadata_endpoint}
        if settings.listen.websocket_port:
            facts["websockets"] = settings.websocket_endpoint(settings.account_endpoint(None)).rstrip("/")
        facts |= {
            "database": "SQLite" if not settings.database_url else "PostgreSQL",
            "generation": _generation(settings),
        }
        facts["audit"] = _audit_line(settings)
    clock = clock_of(settings.data_dir)
    if isinstance(clock, SimulatedClock):
        facts |= {"simulatedTime": iso(clock.now()), "aheadSeconds": round(clock.ahead_s)}
    listeners = (private_states.read(settings) or ()) if state is not None else ()
    if form == "json":
        sys.stdout.write(json.dumps(facts | {"private": [asdict(one) for one in listeners]}, indent=2) + "\n")
    else:
        rows = [(name, str(value)) for name, value in facts.items()]
        rows += [("private", _private_line(one)) for one in listeners]
        print_columns(("", ""), rows)
    if state is None:
        raise typer.Exit(outcome.NOT_RUNNING)


def _audit_line(settings: Settings) -> str:
    """Return how the audit log stands: `ok`, or what is in the way of which sink."""
    from stockade.audit.standing import Standing

    sinks = Standing(settings.run_dir).read()
    said = {"": sinks.problem, "log": sinks.log, "copy": sinks.mirror, "tree heads": sinks.heads}
    return "; ".join(f"{name}: {why}" if name else why for name, why in said.items() if why) or "ok"


def ca(
    pem: Annotated[bool, typer.Option("--pem", help="Print the certificate itself.")] = False, data_dir: DataDir = None
) -> None:
    """Print where the local CA's certificate lies and how clients come to trust it."""
    settings = running_settings()
    if not settings.ca_file.exists():
        err.print(f"There is no CA in {settings.data_dir} yet: `stockade up` makes one.")
        raise typer.Exit(outcome.NOT_FOUND)
    if pem:
        sys.stdout.write(settings.ca_file.read_text())
        return
    out.print(str(settings.ca_file))
    bundle, own = settings.ca_bundle_file, settings.ca_file
    err.print(
        "\nIt can vouch for this platform's own names and nothing else. `stockade env` sets all of these:\n"
        f"  az, Azure SDKs for Python   REQUESTS_CA_BUNDLE={bundle}\n"
        f"  openai, Speech SDK          SSL_CERT_FILE={bundle}\n"
        f"  Node.js                     NODE_EXTRA_CA_CERTS={own}\n"
        f"  curl                        --cacert {own}",
        markup=False,
    )


def _serve(
    settings: Settings,
    overrides: dict[str, Any],
    log_level: str,
    say: Callable[[str], None],
    ready: Callable[[], None],
    *,
    simulation: bool,
) -> int:
    from stockade.content.objects import open_bodies
    from stockade.egress.fetch import Fetcher
    from stockade.egress.resolve import resolver_for
    from stockade.serve import first_start, logs, supervisor
    from stockade.services.openai.catalogue import catalogue, is_built_in

    os.umask(0o077)
    os.environ[logs.LEVEL_VARIABLE] = log_level
    os.environ[DATA_DIR_VARIABLE] = str(settings.data_dir)
    logging.config.dictConfig(logs.configuration("supervisor", log_level))
    _warn_of_host(settings)
    try:
        engines = frozenset(model.name for model in catalogue(settings) if is_built_in(model))
        Fetcher(settings.egress, resolver_for(settings.egress))  # said here, and not by every worker that cannot start
        supervisor.check_not_running(settings)
        # Apart, because it opens root key and keyring, and this process lives for as long as the platform does.
        ended = _apart(lambda: first_start.ensure(settings, say, simulation=simulation))
        if ended != outcome.OK:
            return ended
        open_bodies(settings)  # as above
        asyncio.run(supervisor.Supervisor(settings, overrides, engines).run(ready))
    except (supervisor.CannotServe, ValueError) as failure:
        return _told(failure)
    return outcome.OK


def _told(failure: Exception) -> int:
    """Say why the platform does not start; return what the command ends with."""
    from stockade.serve.tls import UnusablePair

    if isinstance(failure, Fault):
        err.print("[bold red]Error:[/]", end=" ")
        err.print(failure.message, markup=False)
        return outcome.EXIT_CODES[failure.kind]
    unusable = isinstance(failure, UnusablePair)
    err.print(f"The TLS certificate cannot be used: {failure}." if unusable else str(failure), markup=False)
    return outcome.FAILED


def _apart(work: Callable[[], object]) -> int:
    """Do something in a process of its own, so that nothing of it stays in this one's memory; return its exit code, the reason said."""
    from stockade.serve.child import end_with

    sys.stdout.flush()
    sys.stderr.flush()
    parent, child = os.getpid(), os.fork()
    if child:
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return ended if ended >= 0 else outcome.FAILED
    code = outcome.FAILED
    try:
        end_with(parent)
        work()
        code = outcome.OK
    except (Fault, ValueError) as failure:
        code = _told(failure)
    except KeyboardInterrupt:
        code = outcome.INTERRUPTED
    except BaseException:  # noqa: BLE001 - whatever it is, this process must not go on as its parent
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _settings(overrides: dict[str, Any], database_url: str | None) -> Settings:
    if database_url:
        os.environ["STOCKADE_DATABASE_URL"] = (
            database_url  # not among the overrides: those are written to a file, and this may hold a password
        )
    return read_settings(overrides)


def _overrides(
    host: str | None,
    data_port: int | None,
    control_port: int | None,
    metadata_port: int | None,
    websocket_port: int | None,
    workers: int | None,
) -> dict[str, Any]:
    listen = {
        "host": host,
        "data_port": data_port,
        "control_port": control_port,
        "metadata_port": metadata_port,
        "websocket_port": websocket_port,
        "workers": workers,
    }
    given = {name: value for name, value in listen.items() if value is not None}
    return {"listen": given} if given else {}


def _warn_of_host(settings: Settings) -> None:
    try:
        loopback = ip_address(settings.listen.host).is_loopback
    except ValueError:
        loopback = settings.listen.host == "localhost"
    if not loopback:
        err.print(
            f"[yellow]Warning:[/] listening on {settings.listen.host}, so other machines can reach it. Set names.domain in "
            f"{settings.data_dir / 'settings.toml'} to a name they resolve, and use a certificate for it."
        )


def _private_line(one: ListenerState) -> str:
    """Say how a private listener stands: where, for which account, and why not."""
    account = one.account.rpartition("/")[2]
    if one.state == "listening":
        place = f"[{one.address}]" if ":" in one.address else one.address
        return f"https://{place}:{one.port} for {account}" + (f"; {one.reason}" if one.reason else "")
    return f"{one.address} for {account} is not listened on: {one.reason}"


def _generation(settings: Settings) -> int:
    from stockade.storage.database import Database

    database = Database(settings.database)
    try:
        with database.read() as reader:
            return reader.generation()
    finally:
        database.close()
