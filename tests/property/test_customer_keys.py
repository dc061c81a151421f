"""A customer's key through any order of changes: what is bound could be wrapped and unwrapped with, and it is refused exactly while it is away.

The model knows five switches and two versions' states; it shares nothing with what it checks.
"""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from stockade.kernel.clock import ManualClock
from stockade.kernel.faults import Fault
from stockade.keys.broker import WrappedDataKey
from stockade.management.cognitive_services.encryption import binding
from stockade.policy.customer_key import unavailable, version_in
from stockade.policy.key_preflight import preflight
from stockade.policy.snapshot import (
    CustomerKey,
    DataKeyPolicy,
    DataKeysPolicy,
    NetworkPolicy,
    PrincipalPolicy,
    Snapshot,
)
from tests.factories.customer_key import IDENTITY, customer_key, snapshot, vault, version
from tests.factories.policy import ACCOUNT
from tests.factories.pretend_broker import SHOWN, PretendBroker

BOTH = frozenset({"wrapKey", "unwrapKey"})
SWITCHES = ("role", "identity", "vault", "network", "protected")


@dataclass
class Version:
    enabled: bool = True
    ends: float | None = None
    operations: frozenset[str] = BOTH


class KeysLife(RuleBasedStateMachine):
    """One account, one key of up to four versions, and everybody who may change something about them."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.on = dict.fromkeys(SWITCHES, True)
        self.versions = [Version(), Version()]
        self.broker = PretendBroker(self.clock, self.policy)
        self.held: WrappedDataKey = self.broker.new_data_key(ACCOUNT, None, SHOWN)
        self.bound: CustomerKey | None = None
        self.bind(None)  # what there is to be found begins with a key that is bound
        assert self.bound is not None

    # What the policy says, as management's documents would have it.

    def name(self, number: int) -> str:
        return f"{number + 1:032x}"

    def policy(self) -> Snapshot:
        held = DataKeysPolicy(ACCOUNT, (DataKeyPolicy(self.held.version, "p1", self.held.customer),))
        return snapshot(
            vaults=(
                vault(
                    network=NetworkPolicy(trusted_services=self.on["network"], admit_by_default=False),
                    purge_protection=self.on["protected"],
                ),
            )
            if self.on["vault"]
            else (),
            versions=tuple(
                version(self.name(number), enabled=one.enabled, expires=one.ends, operations=one.operations)
                for number, one in enumerate(self.versions)
            ),
            principal=PrincipalPolicy(IDENTITY, "ServicePrincipal", "mi", "a", enabled=self.on["identity"]),
            role="e147488a-f6f5-4113-8e2d-b22465e65bf6" if self.on["role"] else None,
            more=(("data-keys", ACCOUNT, held),),
        )

    # What the model says.

    def serving(self, pinned: str) -> int | None:
        """Return the number of the version that may wrap and unwrap now; None when none may."""
        if not all(self.on[name] for name in ("role", "identity", "vault", "network")):
            return None
        now = self.clock.now()
        usable = [n for n, one in enumerate(self.versions) if one.enabled and (one.ends is None or one.ends > now)]
        if pinned:
            usable = [number for number in usable if self.name(number) == pinned]
        return usable[-1] if usable and self.versions[usable[-1]].operations == BOTH else None

    def serves(self) -> bool:
        """Say whether what is kept can be read now."""
        if self.bound is None:
            return True
        wrapped_with = int(version_in(self.held.customer), 16) - 1
        return self.serving(self.bound.key_version) is not None and self.versions[wrapped_with].enabled

    # What people do.

    # Mostly little is wrong at a time, or nothing would ever be bound.

    @rule(name=st.sampled_from(SWITCHES))
    def take(self, name: str) -> None:
        self.on[name] = False

    @rule()
    def give(self) -> None:
        self.on = dict.fromkeys(SWITCHES, True)

    @rule()
    def mend(self) -> None:
        for one in self.versions:
            one.enabled, one.ends, one.operations = True, None, BOTH

    @rule(number=st.integers(0, 3), what=st.sampled_from(["enabled", "ends", "operations"]))
    def change_version(self, number: int, what: str) -> None:
        if number >= len(self.versions):
            return
        one = self.versions[number]
        match what:
            case "enabled":
                one.enabled = not one.enabled
            case "ends":
                one.ends = None if one.ends is not None else self.clock.now() + 5
            case "operations":
                one.operations = BOTH if one.operations != BOTH else frozenset({"wrapKey"})

    @precondition(lambda self: len(self.versions) < 4)
    @rule()
    def rotate(self) -> None:
        self.versions.append(Version())

    @rule()
    def wait(self) -> None:
        self.clock.advance(3)

    @rule(pinned=st.none() | st.integers(0, 3))
    def bind(self, pinned: int | None) -> None:
        key = customer_key(key_version="" if pinned is None else self.name(pinned))
        could = self.serves()
        found = preflight(self.policy(), key, tenant_id="t", location="local", now=self.clock.now(), strict=False)
        fit = self.serving(key.key_version) is not None and self.on["protected"]
        assert (not found) == fit, found
        try:
            asked = binding(self.bound), binding(key), SHOWN
            made = self.broker.rewrap(ACCOUNT, self.held, *asked) if not found else None
        except Fault:
            made = None
        if made is not None:
            assert fit, "bound although it could not be wrapped and unwrapped with"
            assert could, "opened although the key before it was away"
            self.held, self.bound = made, key
        else:
            assert not (fit and could), "refused although all was in order"

    @rule()
    def leave(self) -> None:
        could = self.serves()
        try:
            made = self.broker.rewrap(ACCOUNT, self.held, binding(self.bound), None, SHOWN)
        except Fault:
            assert not could
            return
        assert could
        self.held, self.bound = made, None

    @precondition(lambda self: self.bound is not None)
    @rule()
    def rewrap(self) -> None:
        """As the background does it after a rotation."""
        if not self.serves():
            return
        self.held = self.broker.rewrap(ACCOUNT, self.held, binding(self.bound), binding(self.bound), None)
        assert self.serves()

    @invariant()
    def it_is_refused_exactly_while_it_is_away(self) -> None:
        if self.bound is not None:
            gone = unavailable(self.policy(), ACCOUNT, self.bound, self.clock.now())
            assert (gone is None) == self.serves(), gone


TestKeysLife = KeysLife.TestCase
TestKeysLife.settings = settings(max_examples=settings().max_examples // 2, stateful_step_count=30, deadline=None)
