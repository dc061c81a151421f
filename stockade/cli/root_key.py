"""`stockade seal`, `unseal`, and what is done with the root key: its recovery kit, a new one, a new platform key."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from typer import Option

from stockade.cli import outcome
from stockade.cli.context import DataDir, err, out, running_settings
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret

if TYPE_CHECKING:
    from stockade.keys.broker import Broker, BrokerStatus
    from stockade.keys.recovery import Kit
    from stockade.keys.root import RootKey
    from stockade.keys.root_sources import RootSource
    from stockade.settings import Settings

recovery = typer.Typer(help="The recovery kit: the root key as shares for several people.", no_args_is_help=True)

MAX_LINE: Final = 4096

OutFolder = Annotated[
    Path | None,
    Option(
        "--out",
        help="Write each share to a file of its own (0600) in this folder instead of the screen.",
        show_default=False,
    ),
]


def seal(data_dir: DataDir = None) -> None:
    """Wipe every key from memory: nothing is answered, and nothing can be opened, until `stockade unseal`."""
    with key_broker(running_settings()) as broker:
        broker.seal()
        state = broker.status()
    err.print("The platform is sealed.")
    if state.root_source == "shares":
        err.print(f"{state.shares_wanted or 'Enough'} shares open it again: stockade unseal")
    else:
        err.print("stockade unseal opens it again, from where its root key lies.")


def unseal(data_dir: DataDir = None) -> None:
    """Open a sealed platform: with people's shares, or from where its root key lies.

    Shares are typed without echo; from a pipe one is read per line. Ends with 0 when the platform is open.
    """
    with key_broker(running_settings()) as broker:
        state = broker.status()
        if not state.sealed:
            err.print("The platform is not sealed.")
            return
        state = _give_shares(broker) if state.root_source == "shares" else broker.unseal(Secret(b""))
    if state.sealed:
        err.print(f"The platform is still sealed: {state.shares_given} of {state.shares_wanted} shares given.")
        raise typer.Exit(outcome.CONFLICT)
    err.print("The platform is open, and starts to answer.")


@recovery.command("create")
def create(
    shares: Annotated[int, Option("--shares", min=2, max=16, help="How many shares to make.")] = 5,
    threshold: Annotated[int, Option("--threshold", min=2, max=16, help="How many of them open the platform.")] = 3,
    folder: OutFolder = None,
    data_dir: DataDir = None,
) -> None:
    """Make shares of the root key, show them once, and keep none. An older kit of the same root key goes on working."""
    from stockade.keys import recovery as kits

    settings = running_settings()
    root = root_of(settings)
    kit, words = kits.make(root, shares, threshold, _now(settings))
    _hand_out(kit, words, folder)
    kits.write_kit(settings.data_dir, kit)


@recovery.command("verify")
def verify(
    remove_file: Annotated[
        bool,
        Option(
            "--remove-file",
            help='Then destroy root.key: from now on only people open the platform (keys.root = "shares").',
        ),
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Ask for shares and say whether they open the platform's keyring."""
    from stockade.keys.keyring import FILE_NAME, Keyring, sealing_key
    from stockade.keys.root_sources import FileSource

    settings = running_settings()
    Keyring.open(settings.data_dir / FILE_NAME, sealing_key(_from_shares()))
    err.print("The shares open the platform.")
    if remove_file:
        if settings.keys.root != "shares":
            message = 'First set keys.root = "shares" in settings.toml, so that the next start asks people and does not miss the file.'
            raise Fault(FaultKind.CONFLICT, message)
        FileSource(settings.root_key_file).destroy()
        err.print(f"{settings.root_key_file} is destroyed. Copies in backups are yours to find.", markup=False)


@recovery.command("restore")
def restore(data_dir: DataDir = None) -> None:
    """Make the root key from shares and put it where the settings say; one that is there already stays."""
    from stockade.keys.keyring import FILE_NAME, Keyring, sealing_key
    from stockade.keys.root_sources import source_of

    settings = running_settings()
    source = source_of(settings)
    if not source.kept_here:
        raise Fault(
            FaultKind.UNSUPPORTED, f"The platform cannot write to {source.place}. For people's shares: stockade unseal"
        )
    if source.exists():
        raise Fault(FaultKind.CONFLICT, f"There is a root key at {source.place}; move it away first.")
    root = _from_shares()
    Keyring.open(settings.data_dir / FILE_NAME, sealing_key(root))
    source.put(root)
    err.print(f"The root key is at {source.place} again, and opens the platform's keyring.", markup=False)


def rotate_root(
    finish: Annotated[
        bool, Option("--finish", help="Where you have put the new key into place yourself: let go of the old one.")
    ] = False,
    folder: OutFolder = None,
    data_dir: DataDir = None,
) -> None:
    """Change the root key. Nothing else changes, and nobody notices; a recovery kit has to be made anew."""
    from stockade.keys import recovery as kits
    from stockade.keys import root_rotation

    settings = running_settings()
    source = _source(settings)
    old = source.read() or _from_shares()
    if finish:
        root_rotation.finish(settings.data_dir, old)
        err.print("The old root key opens nothing any more.")
        return
    if settings.keys.root == "shares":
        kit = kits.read_kit(settings.data_dir)

        def hand_out(new: RootKey) -> None:
            made, words = kits.make(
                new, kit.shares if kit is not None else 5, kit.threshold if kit is not None else 3, _now(settings)
            )
            _hand_out(made, words, folder)
            kits.write_kit(settings.data_dir, made)

        root_rotation.rotate(settings.data_dir, source, old, hand_out)
        err.print("The root key is another one, and the shares above are all there is of it.")
    elif source.kept_here:
        root_rotation.rotate(settings.data_dir, source, old)
        err.print(f"The root key at {source.place} is another one.", markup=False)
        if kits.read_kit(settings.data_dir) is not None:
            err.print("The recovery kit is of the old one; make another: stockade keys recovery create")
    else:
        file = root_rotation.prepare(settings.data_dir, old)
        err.print(
            f"The new root key is in {file}. Put it into {source.place}, start the platform again, then: "
            "stockade keys rotate-root --finish",
            markup=False,
        )


def rotate_platform(data_dir: DataDir = None) -> None:
    """Make a new version of the platform's key. Accounts' data keys are wrapped anew with it in the background."""
    settings = running_settings()
    with key_broker(settings) as broker:
        version = broker.rotate_platform()
    out.print(version)
    err.print("Data keys are wrapped with it from now on; those there are follow, one by one.")


def sealed_state(settings: Settings) -> BrokerStatus | None:
    """Return how the running platform's broker stands; None when it does not answer."""
    from stockade.cli.arm import NotRunning

    try:
        with key_broker(settings) as broker:
            return broker.status()
    except (Fault, NotRunning):
        return None


@contextmanager
def key_broker(settings: Settings) -> Iterator[Broker]:
    """Ask the key broker of this machine; NotRunning when there is none."""
    from stockade.cli.arm import NotRunning
    from stockade.keys.broker_client import BrokerClient

    if not settings.broker_socket.exists():
        raise NotRunning
    with closing(BrokerClient(settings.broker_socket)) as client:
        yield client


def _source(settings: Settings) -> RootSource:
    from stockade.keys.keyring import FILE_NAME
    from stockade.keys.root_sources import source_of

    if settings.keys.broker_socket and not (settings.data_dir / FILE_NAME).exists():
        message = (
            "The key broker is run by something else: do this with its own data directory (--data-dir), as its user."
        )
        raise Fault(FaultKind.UNSUPPORTED, message)
    return source_of(settings)


def root_of(settings: Settings) -> RootKey:
    """Return the root key, which has to be the one that the keyring is sealed with; people are asked for theirs."""
    from stockade.keys.keyring import FILE_NAME, Keyring, sealing_key

    root = _source(settings).read() or _from_shares()
    Keyring.open(settings.data_dir / FILE_NAME, sealing_key(root))
    return root


def _give_shares(broker: Broker) -> BrokerStatus:
    """Give the broker shares until it is open or nobody types any more; return how it stands then."""
    for share in _typed_shares():
        try:
            state = broker.unseal(share)
        except Fault as fault:
            if fault.kind is not FaultKind.INVALID or not sys.stdin.isatty():
                raise
            err.print(fault.message, markup=False)
            continue
        if not state.sealed:
            return state
        err.print(f"{state.shares_given} of {state.shares_wanted} shares given.")
    return broker.status()


def _from_shares() -> RootKey:
    from stockade.keys.recovery import Gathering

    gathering = Gathering()
    for share in _typed_shares():
        try:
            root = gathering.add(share)
        except Fault as fault:
            if not sys.stdin.isatty():
                raise
            err.print(fault.message, markup=False)
            continue
        if root is not None:
            return root
        err.print(f"{gathering.given} of {gathering.wanted} shares given.")
    raise Fault(FaultKind.INVALID, f"{gathering.given} of {gathering.wanted} shares given; that is not enough.")


def _typed_shares() -> Iterator[Secret]:
    """Yield shares as people type them, without echo, or line by line from a pipe."""
    while True:
        if sys.stdin.isatty():
            line = getpass.getpass("Share (33 words): ")
        else:
            line = sys.stdin.readline(MAX_LINE)
        if not line.strip():
            return
        yield Secret(line.strip())


def _hand_out(kit: Kit, words: tuple[Secret, ...], folder: Path | None) -> None:
    if folder is None:
        err.print(f"Any {kit.threshold} of these {kit.shares} shares give the root key. They are shown this once.\n")
        for number, share in enumerate(words, start=1):
            out.print(f"Share {number}: {share.reveal_text()}", markup=False)
        return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(folder.glob("share-*")):
        raise Fault(FaultKind.CONFLICT, f"There are shares in {folder} already; name another folder.")
    for number, share in enumerate(words, start=1):
        file = folder / f"share-{number}-of-{kit.shares}.txt"
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as written:
            written.write(share.reveal_text() + "\n")
        out.print(str(file), markup=False)
    err.print(f"Any {kit.threshold} of these {kit.shares} files give the root key: bring them to different places.")


def _now(settings: Settings) -> float:
    from stockade.kernel.clock import clock_of

    return clock_of(settings.data_dir).now()
