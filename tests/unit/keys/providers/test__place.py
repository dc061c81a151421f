"""What providers that are elsewhere have in common."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stockade.kernel.faults import Fault, FaultKind
from stockade.keys.providers._place import WORKERS, Workers, credential, library
from stockade.settings import Provider

PLACE = Provider(name="hsm", type="pkcs11")


def refused(call, *arguments) -> Fault:
    with pytest.raises(Fault) as caught:
        call(*arguments)
    assert caught.value.kind is FaultKind.UNAVAILABLE
    return caught.value


def test_a_missing_library_is_named_with_its_extra() -> None:
    assert library("json", "x").__name__ == "json"
    assert "stockade[pkcs11]" in refused(library, "no_such_module_anywhere", "pkcs11").message


def test_credential_from_environment_or_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert credential(PLACE) is None
    monkeypatch.setenv("HSM_PIN", " 1234\n")
    file = tmp_path / "pin"
    file.write_text("5678\n")
    by_env = Provider(name="hsm", type="pkcs11", credential_env="HSM_PIN")
    by_file = Provider(name="hsm", type="pkcs11", credential_file=str(file))
    assert credential(by_env).matches(b"1234")
    assert credential(by_file).matches(b"5678")
    monkeypatch.setenv("HSM_PIN", "  ")
    refused(credential, by_env)
    monkeypatch.delenv("HSM_PIN")
    refused(credential, by_env)
    file.write_bytes(b"\xff\xff")
    refused(credential, by_file)
    file.unlink()
    refused(credential, by_file)


def test_a_call_that_hangs_is_left_and_not_all_of_them_at_once() -> None:
    workers, hang = Workers("hsm", 0.2), threading.Event()
    try:
        assert workers.run(lambda: 1) == 1
        began = time.monotonic()
        with ThreadPoolExecutor(WORKERS * 4) as pool:
            waiting = [pool.submit(refused, workers.run, lambda: hang.wait(20)) for _ in range(WORKERS * 4)]
            for one in waiting:
                assert one.result().retry_after_s == 1
        assert time.monotonic() - began < 5
        assert threading.active_count() < 30, "threads that hang are not replaced without end"
        hang.set()
        for _ in range(100):
            try:
                assert workers.run(lambda: 2) == 2
                break
            except Fault:
                continue
        else:
            pytest.fail("no thread came back")
    finally:
        hang.set()
        workers.close()
    refused(workers.run, lambda: 3)


def test_what_a_call_raises_is_its_callers() -> None:
    workers = Workers("hsm", 5)
    with pytest.raises(ZeroDivisionError):
        workers.run(lambda: 1 / 0)
    workers.close()
