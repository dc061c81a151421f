"""What a provider of keys costs beside the bare primitive: `python -m benchmarks.keys`. No server, one thread.

"bare" is the call of `cryptography` with the key at hand; "provider" the same through the software provider, handle and all, with the key still
open from the last use; "opened anew" with the handle opened for it. Each is the best of several runs in CPU time of this process. Below stands
what `openssl speed` says of the system's own OpenSSL, which is another one than `cryptography` brings. "aim": 1.5 times the bare primitive.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from typing import Any, Final

from cryptography.hazmat.backends.openssl import backend
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap, aes_key_wrap

from benchmarks.loss_prevention import best
from stockade.kernel.secret import Secret
from stockade.keys.algorithms import private_members, raw_signature
from stockade.keys.material import KeyRequest, KeySpec
from stockade.keys.providers.software import SoftwareProvider

AIM: Final = 1.5
BOUND: Final = "/vaults/v/keys/k/versions/1"
VALUE: Final = bytes(range(32))
OAEP: Final = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
PREHASHED: Final = Prehashed(hashes.SHA256())
PSS: Final = padding.PSS(padding.MGF1(hashes.SHA256()), 32)


def rows(
    provider: SoftwareProvider,
) -> list[tuple[str, Callable[[], object], Callable[[], object], Callable[[], object]]]:
    """Return name, bare call, provider's call, and what makes the provider forget the key before it."""
    found: list[tuple[str, Callable[[], object], Callable[[], object], Callable[[], object]]] = []

    def add(name: str, bare: Callable[[], object], key: Any, **request: Any) -> None:
        asked = KeyRequest(**request)

        def use() -> object:
            return provider.use(key.handle, key.public, asked, BOUND)

        def anew() -> object:
            provider._open.drop(key.handle, BOUND)  # noqa: SLF001 (what is measured is how it works inside)
            return provider.use(key.handle, key.public, asked, BOUND)

        found.append((name, bare, use, anew))

    theirs = rsa.generate_private_key(65537, 2048)
    ours = provider.take(KeySpec(type="RSA", size=2048), private_members(theirs), BOUND)
    public, sealed = theirs.public_key(), theirs.public_key().encrypt(VALUE, OAEP)
    signature = theirs.sign(VALUE, padding.PKCS1v15(), PREHASHED)
    rs256: dict[str, Any] = {"algorithm": "RS256", "value": VALUE}
    add("RSA 2048 sign RS256", lambda: theirs.sign(VALUE, padding.PKCS1v15(), PREHASHED), ours, use="sign", **rs256)
    add(
        "RSA 2048 sign PS256",
        lambda: theirs.sign(VALUE, PSS, PREHASHED),
        ours,
        use="sign",
        algorithm="PS256",
        value=VALUE,
    )
    add(
        "RSA 2048 unwrap OAEP-256", lambda: theirs.decrypt(sealed, OAEP), ours,
        use="unwrap", algorithm="RSA-OAEP-256", value=sealed,
    )  # fmt: skip
    add(
        "RSA 2048 wrap OAEP-256", lambda: public.encrypt(VALUE, OAEP), ours,
        use="wrap", algorithm="RSA-OAEP-256", value=VALUE,
    )  # fmt: skip
    add(
        "RSA 2048 verify RS256", lambda: public.verify(signature, VALUE, padding.PKCS1v15(), PREHASHED), ours,
        use="verify", signature=signature, **rs256,
    )  # fmt: skip

    point = ec.generate_private_key(ec.SECP256R1())
    curve = provider.take(KeySpec(type="EC", curve="P-256"), private_members(point), BOUND)
    der = point.sign(VALUE, ec.ECDSA(PREHASHED))
    es256: dict[str, Any] = {"algorithm": "ES256", "value": VALUE}
    add("P-256 sign ES256", lambda: point.sign(VALUE, ec.ECDSA(PREHASHED)), curve, use="sign", **es256)
    add(
        "P-256 verify ES256", lambda: point.public_key().verify(der, VALUE, ec.ECDSA(PREHASHED)), curve,
        use="verify", signature=raw_signature(der, point.curve), **es256,
    )  # fmt: skip

    aes = os.urandom(32)
    kept, cipher, wrapped = (
        provider.take(KeySpec(type="oct", size=256), {"k": aes}, BOUND),
        AESGCM(aes),
        aes_key_wrap(aes, VALUE),
    )
    add(
        "AES 256 encrypt GCM, 32 bytes", lambda: cipher.encrypt(os.urandom(12), VALUE, None), kept,
        use="encrypt", algorithm="A256GCM", value=VALUE,
    )  # fmt: skip
    add(
        "AES 256 unwrap KW", lambda: aes_key_unwrap(aes, wrapped), kept,
        use="unwrap", algorithm="A256KW", value=wrapped,
    )  # fmt: skip
    return found


def openssl() -> dict[str, float]:
    """Return operations per second as the system's `openssl speed` says them; nothing where there is none."""
    program = shutil.which("openssl")
    if program is None:
        return {}
    command = [program, "speed", "-seconds", "1", "rsa2048", "ecdsap256"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False).stdout
    found = {}
    for name, pattern in {"RSA 2048": r"rsa\s+2048 bits", "P-256": r"256 bits ecdsa"}.items():
        line = re.search(rf"{pattern}.*?s\s+[\d.]+s\s+([\d.]+)\s+([\d.]+)", said)
        if line is not None:
            found[f"{name} sign"], found[f"{name} verify"] = float(line[1]), float(line[2])
    return found


def main() -> None:
    provider = SoftwareProvider(Secret(os.urandom(32)), kept_open_s=3600)
    print(backend.openssl_version_text())
    print(f"{'microseconds':32}{'bare':>9}{'provider':>10}{'ratio':>7}{'opened anew':>13}{'ratio':>7}  aim")
    for name, bare, use, anew in rows(provider):
        times = [best(call) * 1e6 for call in (bare, use, anew)]
        ratio = times[1] / times[0]
        aim = "met" if ratio <= AIM else f"missed ({AIM})"
        print(f"{name:32}{times[0]:9.1f}{times[1]:10.1f}{ratio:7.2f}{times[2]:13.1f}{times[2] / times[0]:7.2f}  {aim}")
    theirs = openssl()
    if theirs:
        print(
            "\nopenssl speed, microseconds: " + ", ".join(f"{name} {1e6 / speed:.1f}" for name, speed in theirs.items())
        )
    provider.close()


if __name__ == "__main__":
    main()
