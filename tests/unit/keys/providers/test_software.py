"""How long opened keys stay in memory, and how many."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest

from stockade.kernel.secret import Secret
from stockade.keys.material import KeyRequest, KeySpec
from stockade.keys.providers import software
from stockade.keys.providers.software import SoftwareProvider

P256 = KeySpec(type="EC", curve="P-256")
SIGN = KeyRequest(use="sign", algorithm="ES256", value=bytes(32))


class Watched:
    """Stands for a key; goes when nobody holds it."""


def test_opened_keys_are_reused_until_their_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    loads, gone = [], threading.Event()
    load = software._load
    monkeypatch.setattr(software, "_load", lambda private: loads.append(1) or load(private))
    provider = SoftwareProvider(Secret(bytes(32)), kept_open_s=0.2)
    sweep = provider._open._sweep
    monkeypatch.setattr(provider._open, "_sweep", lambda: (sweep(), gone.set()))
    key = provider.create(P256, "a")
    for _ in range(3):
        provider.use(key.handle, key.public, SIGN, "a")
    assert len(loads) == 1
    assert len(provider._open._keys) == 1
    assert gone.wait(10), "nobody has to come by for a key to be dropped"
    assert not provider._open._keys
    provider.use(key.handle, key.public, SIGN, "a")
    assert len(loads) == 2
    provider.close()
    assert not provider._open._keys


def test_no_more_than_so_many_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(software, "KEPT_OPEN", 3)
    kept = software._OpenKeys(60)
    keys = [Watched() for _ in range(5)]
    for number, key in enumerate(keys):
        kept.put(bytes([number]), "a", ("EC", key))
    assert [kept.get(bytes([number]), "a") is not None for number in range(5)] == [False, False, True, True, True]
    assert kept.get(b"\x04", "b") is None
    kept.drop(b"\x04", "a")
    assert kept.get(b"\x04", "a") is None
    watching = weakref.ref(keys[2])
    kept.close()
    del keys, key
    gc.collect()
    assert watching() is None


def test_a_key_used_all_the_time_does_not_stay_for_ever() -> None:
    kept = software._OpenKeys(0.05)
    kept.put(b"h", "a", ("EC", Watched()))
    gone = threading.Event()
    for _ in range(1000):
        if kept.get(b"h", "a") is None:
            gone.set()
            break
        threading.Event().wait(0.005)
    assert gone.is_set()
    kept.close()


def test_exported_and_handles_of_this_version_open_forever() -> None:
    """Frozen on 2026-11-26."""
    provider = SoftwareProvider(Secret(bytes(range(32))))
    exported = bytes.fromhex(EXPORTED)
    key = provider.restore(exported, "b")
    signature = provider.use(key.handle, key.public, SIGN, "b").value
    frozen = bytes.fromhex(HANDLE)
    request = KeyRequest(use="verify", algorithm="ES256", value=SIGN.value, signature=signature)
    assert provider.use(frozen, key.public, request, "a").valid is True
    provider.close()


EXPORTED = (
    "02308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420b1737705a04cae7a01e4c45cad"
    "fb1d5752810f4ed6489926dbcc610f65512fe5a14403420004e811e57092fe6add4b4ae1c2578fb533806a8474bc69bc59d8"
    "bbf3e91a74154070746c1a8f7643a6da751f5760d96314409be155684ad749715a89a3a93217dc"
)
HANDLE = (
    "018dbfd2e027cad582aa54dc8844788803e43aab6d7ace59b67c4e4482d4dc210d9ac544e913c21e44589c1976057b4b482a"
    "8958e4c4d2a154c0039a91366528e028f3f4e64d008d81c6bcd2845ac1a3a29788a874efd224c1c1c9e0e1f34d92e34b03ef"
    "984abead96e940c6272cd17f870694ad4b8a041fd69941b4802953237f286eedda317301530bd257deee681a43bfef51db5b"
    "223d6be4ce9eb943c43c9771cd253d836930"
)
