"""An OpenID Connect provider in a process of its own, over https with an authority of its own.

`Provider` starts it and signs tokens as it would. As a program (`python oidc.py FOLDER NAME PORT`) it serves what `Provider` writes into the folder:
`keys.json`, read anew for each request, and the discovery document. It prints the port it listens on.
"""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Provider:
    """One issuer, `https://localhost:PORT/realms/NAME`. Started at once; `start` again after `stop` keeps the port."""

    def __init__(self, folder: Path, name: str) -> None:
        from joserfc.jwk import RSAKey

        from tests.factories.certificates import certificates

        self._new_key = lambda: RSAKey.generate_key(2048, auto_kid=False)
        self.folder, self.name, self.port = folder, name, 0
        self.authority = certificates(folder).authority
        self.published: list[dict[str, Any]] = []
        self.rotate("one")
        self.start()

    @property
    def issuer(self) -> str:
        return f"https://localhost:{self.port}/realms/{self.name}"

    def rotate(self, kid: str) -> None:
        """Publish a further key and sign with it from now on."""
        self.kid, self.key = kid, self._new_key()
        public = {**self.key.as_dict(private=False), "kid": kid, "use": "sig", "alg": "RS256"}
        self.published.append(public)
        _replace(self.folder / "keys.json", {"keys": self.published})

    def start(self) -> None:
        arguments = [sys.executable, __file__, str(self.folder), self.name, str(self.port)]
        self._process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def claims(self, subject: str, **changes: Any) -> dict[str, Any]:
        """Return what a good token says, with changes; None removes a claim."""
        now = int(time.time())
        good = {"iss": self.issuer, "sub": subject, "aud": "stockade", "azp": "portal", "typ": "Bearer"}
        times = {"iat": now, "nbf": now, "exp": now + 600}
        return {name: value for name, value in {**good, **times, **changes}.items() if value is not None}

    def token(self, subject: str, *, header: dict[str, Any] | None = None, key: Any = None, **changes: Any) -> str:
        """Sign a token; header and key: instead of the right ones."""
        from tests.factories.jose import sign

        said = {"alg": "RS256", "typ": "JWT", "kid": self.kid, **(header or {})}
        return sign(said, self.claims(subject, **changes), key or self.key)


def _replace(file: Path, content: Any) -> None:
    new = file.with_suffix(".new")
    new.write_text(json.dumps(content))
    new.replace(file)


def _serve(folder: Path, name: str, port: int) -> None:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            base = f"https://localhost:{server.server_port}/realms/{name}"
            answers = {
                f"/realms/{name}/.well-known/openid-configuration": lambda: json.dumps(
                    {"issuer": base, "jwks_uri": f"{base}/certs"}
                ),
                f"/realms/{name}/certs": (folder / "keys.json").read_text,
            }
            answer = answers.get(self.path)
            body = answer().encode() if answer is not None else b""
            self.send_response(200 if answer is not None else 404)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Answer)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
