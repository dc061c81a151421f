"""Customers' keys in vaults elsewhere, asked again and again: what is taken away there is refused here within a lease.

Each of those vaults is asked for every key in use whether its version may wrap, and to unwrap what it has wrapped, since the right to look is not the
right to use. An answer that does not come within two fifths of a lease is none: the key counts as unreachable until one comes. What is found is
written down when it changes, and every process decides by it (`policy/customer_key.py`); a new version too, which data keys then follow.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Final, TypeAlias

from stockade.kernel.clock import Clock
from stockade.kernel.faults import Fault, FaultKind
from stockade.keys.providers.provider import RemoteVault
from stockade.keys.stored import data_keys_of
from stockade.policy.customer_key import identity_problem, remote_state, vault_of, version_in
from stockade.policy.remote_keys import TYPE, state_body, state_id
from stockade.policy.snapshot import CustomerKey, RemoteKeyState, Snapshot
from stockade.storage.database import Database

SHARE_OF_LEASE: Final = 0.4
"""How long an answer may take, and how often it is asked for: twice that and the writing fit into one lease."""
AT_ONCE: Final = 8
"""Questions under way to one vault: one that hangs keeps nobody else's waiting."""
MAX_PROBES: Final = 4096

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Serving:
    """Whether a key's version may wrap now: the pinned one, or the newest."""

    vault_uri: str
    key_name: str
    key_version: str


@dataclass(frozen=True, slots=True)
class Unwraps:
    """Whether a version unwraps what it has wrapped. Of several data keys that it has wrapped one is enough."""

    vault_uri: str
    customer: str


Probe: TypeAlias = Serving | Unwraps


@dataclass(frozen=True, slots=True)
class Found:
    """What an answer says. problem: a code of `policy/customer_key.py`, and message words; both "" while all is well. version: that serves."""

    problem: str = ""
    message: str = ""
    version: str = ""


class Watch:
    """Asks vaults elsewhere and writes down what it found. vault: from a vault's URI to what reaches it, None when the settings name nothing."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        snapshot: Callable[[], Snapshot],
        vault: Callable[[str], RemoteVault | None],
        lease_s: float,
    ) -> None:
        self._database, self._clock, self._snapshot, self._vault = database, clock, snapshot, vault
        self.every_s = lease_s * SHARE_OF_LEASE
        self._threads: dict[str, ThreadPoolExecutor] = {}
        """By vault."""
        self._asked: dict[Probe, Future[str]] = {}
        self._generation = -1
        self._owners: dict[str, tuple[CustomerKey, tuple[Probe, ...]]] = {}
        self._samples: dict[Probe, bytes] = {}

    def look(self) -> bool:
        """Ask about every key once and write down what has changed; return whether there are any. Not for several threads at once."""
        snapshot = self._snapshot()
        if snapshot.generation != self._generation:
            self._read(snapshot)
            self._generation = snapshot.generation
        found = self._ask({probe for _, probes in self._owners.values() for probe in probes})
        self._write(snapshot, found)
        return bool(self._owners)

    def close(self) -> None:
        for threads in self._threads.values():
            threads.shutdown(wait=False, cancel_futures=True)

    def _read(self, snapshot: Snapshot) -> None:
        """Find out whose keys are elsewhere, and what they have wrapped."""
        owners = dict(_elsewhere(snapshot))
        self._owners, self._samples = {}, {}
        if not owners:
            return
        with self._database.read() as reader:
            for owner_id, key in owners.items():
                document = reader.get(owner_id)
                probes: list[Probe] = [Serving(key.vault_uri, key.key_name, key.key_version)]
                for held in data_keys_of(document.private) if document is not None else ():
                    if held.customer.lower().startswith(key.vault_uri + "/keys/"):
                        probe = Unwraps(key.vault_uri, held.customer)
                        self._samples.setdefault(probe, held.wrapped)
                        probes.append(probe)
                self._owners[owner_id] = (key, tuple(probes))

    def _ask(self, probes: set[Probe]) -> dict[Probe, Found]:
        until = time.monotonic() + self.every_s
        for probe in [probe for probe in self._asked if probe not in probes]:
            self._asked.pop(probe).cancel()
        late: dict[Probe, Found] = {}
        for probe in sorted(probes, key=repr):
            held = self._asked.get(probe)
            if held is not None and not held.done():
                continue  # it was late the last time and still is
            if len(self._asked) >= MAX_PROBES and held is None:
                late[probe] = Found(
                    "VaultUnreachable", "Too many keys in other vaults are in use to ask about them all."
                )
                continue
            vault = self._vault(probe.vault_uri)
            if vault is None:
                late[probe] = Found("VaultNotFound", f"There is no key vault at {probe.vault_uri}.")
                continue
            threads = self._threads.get(probe.vault_uri)
            if threads is None:
                threads = self._threads[probe.vault_uri] = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="watch")
            self._asked[probe] = threads.submit(_try, vault, probe, self._samples.get(probe, b""))
        wait(self._asked.values(), max(0.0, until - time.monotonic()))
        return {probe: _result(future) for probe, future in self._asked.items()} | late

    def _write(self, snapshot: Snapshot, found: dict[Probe, Found]) -> None:
        now = self._clock.now()
        changed: dict[str, RemoteKeyState] = {}
        for owner_id, (key, probes) in self._owners.items():
            wrong = next((found[probe] for probe in probes if found[probe].problem), Found())
            known = remote_state(snapshot, owner_id, key)
            version = found[probes[0]].version or (known.version if known is not None else "")
            state = RemoteKeyState(key.vault_uri, key.key_name.lower(), wrong.problem, wrong.message, now, version)
            if known is None or (known.failure, known.version) != (state.failure, state.version):
                changed[owner_id] = state
        gone = [str(owner) for owner in snapshot.keys("remote-key") if owner not in self._owners]
        if not changed and not gone:
            return
        with self._database.write() as writer:
            for owner_id, state in changed.items():
                writer.put(state_id(owner_id), TYPE, state_body(owner_id, state))
            for owner_id in gone:
                document = writer.get(state_id(owner_id))
                if document is not None:
                    writer.remove(document)
        for owner_id, state in changed.items():
            told = {"owner": owner_id, "vault": state.vault_uri, "problem": state.failure, "version": state.version}
            if state.failure:
                log.warning("a customer's key in another vault does not serve: %s", state.message, extra=told)
            else:
                log.info("a customer's key in another vault serves", extra=told)


def _elsewhere(snapshot: Snapshot) -> Iterable[tuple[str, CustomerKey]]:
    """Yield accounts and encryption scopes whose keys are in no vault of ours. Those without an identity have lost theirs already."""
    for index in ("account", "encryption-scope"):
        for owner_id in snapshot.keys(index):
            owner = snapshot.only(index, owner_id)
            key: CustomerKey | None = owner.customer_key if owner is not None else None
            if key is not None and vault_of(snapshot, key) is None and identity_problem(snapshot, key) is None:
                yield str(owner_id), key


def _try(vault: RemoteVault, probe: Probe, wrapped: bytes) -> str:
    """Ask; return the version that serves, "" where that was not the question."""
    match probe:
        case Serving(key_name=name, key_version=version):
            return version_in(vault.serving(name, version))
        case Unwraps(customer=customer):
            vault.unwrap_named(customer, wrapped)
            return ""


def _result(future: Future[str]) -> Found:
    if not future.done():
        return Found("VaultUnreachable", "The key vault does not answer in time.")
    failure = future.exception()
    if failure is None:
        return Found(version=future.result())
    if isinstance(failure, Fault) and failure.kind is FaultKind.CUSTOMER_KEY_UNAVAILABLE:
        return Found(str(failure.details.get("problem", "VaultUnreachable")), failure.message)
    if not isinstance(failure, Fault):
        log.error("a key vault could not be asked", exc_info=failure)
        return Found("VaultUnreachable", "The key vault cannot be asked.")
    return Found("VaultUnreachable", failure.message)
