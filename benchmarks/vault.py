"""What a vault's operations cost: signing and unwrapping over HTTP, beside the bare primitive and a request that does nothing.

The primitive is OpenSSL's by way of `cryptography` in this process. The request that does nothing is `/healthz` of the same server on the same
connection, with the token but without a body, so it is a little less than an operation's. The aim is that an operation takes at most 1.5 times what
primitive and nothing take together. The lowest tenth stands beside the median: what it takes when nobody else wants the processor.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from benchmarks.__main__ import cores
from benchmarks.install import CHECKOUT
from benchmarks.process import free_port, started

ROUNDS, WINDOW_S, AIM = 7, 0.7, 1.5
VAULT = "https://vault.azure.net"
DIGEST = b"\1" * 32
OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)


@dataclass
class Operation:
    """One operation, what it is compared with, and the microseconds that each call took."""

    name: str
    bare: Callable[[], object]
    served: Callable[[], object]
    bare_us: list[float] = field(default_factory=list)
    served_us: list[float] = field(default_factory=list)


class Server:
    """A platform of its own, asked on one connection that is kept open."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ports = folder, [free_port() for _ in range(4)]
        self._connection: http.client.HTTPSConnection | None = None
        self._token = ""
        folder.mkdir(mode=0o700)
        # What a vault takes in ten seconds is no measure here.
        (folder / "settings.toml").write_text("[vault]\ntransactions_per_10_s = 1000000\n")

    @property
    def command(self) -> list[str]:
        flags = ("--data-port", "--control-port", "--metadata-port", "--websocket-port")
        ports = [text for flag, port in zip(flags, self.ports, strict=True) for text in (flag, str(port))]
        return [sys.executable, "-m", "stockade", "serve", "--workers", "1", *ports]

    def connect(self) -> None:
        """Wait until it answers, and get a token."""
        state = self.folder / "run" / "serve.json"
        deadline = time.monotonic() + 90
        while not state.exists():
            if time.monotonic() > deadline:
                raise TimeoutError("the server does not start")
            time.sleep(0.1)
        context = ssl.create_default_context(cafile=str(self.folder / "tls" / "ca.pem"))
        self._connection = http.client.HTTPSConnection("localhost", self.ports[1], context=context, timeout=30)
        admin = json.loads((self.folder / "admin.json").read_bytes())
        form = f"grant_type=client_credentials&client_id={admin['clientId']}&client_secret={admin['clientSecret']}"
        form += f"&scope={VAULT}/.default"
        headers = {"content-type": "application/x-www-form-urlencoded"}
        self._token = self._ask("POST", f"/{admin['tenantId']}/oauth2/v2.0/token", form, headers)["access_token"]

    def nothing(self) -> None:
        """Ask for what takes no work, with the token that every other request carries too."""
        assert self._connection is not None
        self._connection.request("GET", "/healthz", headers={"authorization": f"Bearer {self._token}"})
        answer = self._connection.getresponse()
        answer.read()
        assert answer.status == 200

    def vault(self, path: str, body: Any) -> Any:
        return self._ask("POST", f"{path}?api-version=7.6", json.dumps(body), self._headers())

    def _headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self._token}", "content-type": "application/json"}

    def _ask(self, method: str, path: str, body: str, headers: dict[str, str]) -> Any:
        assert self._connection is not None
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        content = answer.read()
        assert answer.status == 200, content
        return json.loads(content)


def operations(server: Server) -> list[Operation]:
    """Make the keys, there and here, and say what is compared."""
    found = []
    for size in (2048, 4096):
        key = rsa.generate_private_key(65537, size)
        server.vault(f"/keys/rsa{size}/create", {"kty": "RSA", "key_size": size})
        found.append(_signing(server, f"RS256, RSA {size}", f"rsa{size}", "RS256", lambda key=key: _rsa(key)))
    made = server.vault("/keys/rsa2048//wrapkey", {"alg": "RSA-OAEP-256", "value": _b64(b"k" * 32)})
    asked = {"alg": "RSA-OAEP-256", "value": made["value"]}
    own = rsa.generate_private_key(65537, 2048)
    sealed = own.public_key().encrypt(b"k" * 32, OAEP)
    found.append(
        Operation(
            "unwrap RSA-OAEP-256, RSA 2048",
            lambda: own.decrypt(sealed, OAEP),
            lambda: server.vault("/keys/rsa2048//unwrapkey", asked),
        )
    )
    curve = ec.generate_private_key(ec.SECP256R1())
    server.vault("/keys/p256/create", {"kty": "EC"})
    found.append(
        _signing(
            server, "ES256, P-256", "p256", "ES256", lambda: curve.sign(DIGEST, ec.ECDSA(Prehashed(hashes.SHA256())))
        )
    )
    return found


def _signing(server: Server, name: str, key: str, algorithm: str, bare: Callable[[], object]) -> Operation:
    asked = {"alg": algorithm, "value": _b64(DIGEST)}
    return Operation(f"sign {name}", bare, lambda: server.vault(f"/keys/{key}//sign", asked))


def _rsa(key: rsa.RSAPrivateKey) -> bytes:
    return key.sign(DIGEST, padding.PKCS1v15(), Prehashed(hashes.SHA256()))


def _b64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def measured(call: Callable[[], object]) -> list[float]:
    """Return the microseconds that each call took, in one window."""
    taken: list[float] = []
    end = time.perf_counter() + WINDOW_S
    while True:
        start = time.perf_counter()
        call()
        now = time.perf_counter()
        taken.append((now - start) * 1e6)
        if now >= end:
            return taken


def line(name: str, bare: list[float], served: list[float], nothing: list[float]) -> str:
    """Return one row of the table."""
    cells = [name.ljust(32)]
    for pick in (statistics.median, _lowest_tenth):
        own, whole, idle = pick(bare), pick(served), pick(nothing)
        ratio = whole / (own + idle)
        cells.append(f"{own:8.0f} {whole:8.0f} {1e6 / whole:8.0f} {ratio:6.2f}{' ' if ratio <= AIM else '!'}")
    return " ".join(cells)


def main() -> int:
    """Measure and print; always 0, for the machine decides and not the code alone."""
    with tempfile.TemporaryDirectory(prefix="stockade-benchmark-") as name:
        server = Server(Path(name) / "data")
        environment = {"STOCKADE_DATA_DIR": str(server.folder), "PYTHONPATH": str(CHECKOUT)}
        core, _ = cores()
        with started(server.command, core=core, log=Path(name) / "log", environment=environment):
            server.connect()
            compared: list[Operation] = operations(server)
            nothing: list[float] = []
            for one in compared:
                one.served()
            for _ in range(ROUNDS):
                nothing += measured(server.nothing)
                for one in compared:
                    one.bare_us += measured(one.bare)
                    one.served_us += measured(one.served)
    print(
        f"a request that does nothing: {statistics.median(nothing):.0f} us, lowest tenth {_lowest_tenth(nothing):.0f} us"
    )
    print("one connection; bare us, served us, served per second, served to bare and nothing together (! above 1.5)\n")
    print(f"{'':32} {'median':>33} {'lowest tenth':>33}")
    for one in compared:
        print(line(one.name, one.bare_us, one.served_us, nothing))
    return 0


def _lowest_tenth(values: list[float]) -> float:
    return sorted(values)[len(values) // 10]


if __name__ == "__main__":
    sys.exit(main())
