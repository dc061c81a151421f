"""With which algorithm a customer's RSA key wraps: what its provider knows, and what was wrapped stays to be unwrapped."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from stockade.broker.customer_keys import CustomerKeys
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.keys.material import KeyAnswer, KeyRequest, KeySpec
from stockade.keys.providers.software import SoftwareProvider

VERSION: Any = SimpleNamespace(id="v", key_type="RSA-HSM", key_size=2048)
INNER = os.urandom(61)


class Token:
    """Vault keys of a provider that knows some algorithms only."""

    def __init__(self, *known: str) -> None:
        self.known = known
        self.asked: list[str] = []
        self._software = SoftwareProvider(Secret(bytes(32)))
        self._key = self._software.create(KeySpec(type="RSA-HSM", size=2048), "v")

    def use_stored(self, snapshot: object, version_id: str, request: KeyRequest) -> KeyAnswer:
        self.asked.append(request.algorithm)
        if request.algorithm not in self.known:
            raise Fault(FaultKind.UNSUPPORTED, "not here")
        return self._software.use(self._key.handle, self._key.public, request, version_id)


def customer_keys(token: Token) -> Any:
    return CustomerKeys(token, (), {})  # type: ignore[arg-type]


@pytest.mark.parametrize("known", [("RSA-OAEP-256",), ("RSA-OAEP",), ("RSA-OAEP-256", "RSA-OAEP")], ids="+".join)
def test_the_first_that_the_provider_knows(known: tuple[str, ...]) -> None:
    token = Token(*known)
    keys = customer_keys(token)
    wrapped = keys._use(None, VERSION, "wrap", INNER)
    assert token.asked[-1] == known[0]
    assert keys._use(None, VERSION, "unwrap", wrapped) == INNER


def test_what_was_wrapped_before_the_provider_learned_more() -> None:
    token = Token("RSA-OAEP")
    keys = customer_keys(token)
    wrapped = keys._use(None, VERSION, "wrap", INNER)
    token.known = ("RSA-OAEP-256", "RSA-OAEP")
    assert keys._use(None, VERSION, "unwrap", wrapped) == INNER


def test_a_provider_that_knows_none_is_told_of_when_wrapping() -> None:
    keys = customer_keys(Token("RSA1_5"))
    with pytest.raises(Fault) as caught:
        keys._use(None, VERSION, "wrap", INNER)
    assert caught.value.kind is FaultKind.CUSTOMER_KEY_UNAVAILABLE


@pytest.mark.parametrize("known", [("RSA-OAEP-256",), ("RSA-OAEP",), ("RSA-OAEP-256", "RSA-OAEP")], ids="+".join)
def test_damage_is_damage(known: tuple[str, ...]) -> None:
    keys = customer_keys(Token(*known))
    wrapped = bytearray(keys._use(None, VERSION, "wrap", INNER))
    wrapped[-1] ^= 1
    with pytest.raises(Fault) as caught:
        keys._use(None, VERSION, "unwrap", bytes(wrapped))
    assert caught.value.kind is FaultKind.UNAVAILABLE
    assert caught.value.message == "A data key could not be opened."
