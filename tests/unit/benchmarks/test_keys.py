"""What is measured of keys does what its row says."""

from __future__ import annotations

import os
import subprocess

import pytest

from benchmarks import keys
from stockade.kernel.secret import Secret
from stockade.keys.providers.software import SoftwareProvider


def test_every_row_is_the_same_operation_three_times() -> None:
    provider = SoftwareProvider(Secret(os.urandom(32)))
    rows = keys.rows(provider)
    assert len({name for name, *_ in rows}) == len(rows) >= 9
    for name, bare, use, anew in rows:
        bare()
        for call in (use, anew):
            answer = call()
            assert answer.valid is True if "verify" in name else len(answer.value) >= 32
    provider.close()


def test_what_openssl_says_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    said = (
        "rsa 2048 bits 0.000362s 0.000020s   2758.6  49117.2\n"
        " 256 bits ecdsa (nistp256)   0.0000s   0.0001s  30496.7   9272.7\n"
    )
    monkeypatch.setattr(keys.shutil, "which", lambda _: "openssl")
    monkeypatch.setattr(
        keys.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, stdout=said, stderr="")
    )
    assert keys.openssl() == {
        "RSA 2048 sign": 2758.6, "RSA 2048 verify": 49117.2, "P-256 sign": 30496.7, "P-256 verify": 9272.7,
    }  # fmt: skip
    monkeypatch.setattr(keys.shutil, "which", lambda _: None)
    assert keys.openssl() == {}
