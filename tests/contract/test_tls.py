"""What the two TLS listeners accept, show and refuse, on a real server."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests import outside
from tests.live import Live, StartServer, wait_for

PLANES = ("data", "control")


def port_of(live: Live, plane: str) -> int:
    return live.ports[PLANES.index(plane)]


def handshake(port: int, context: ssl.SSLContext, name: str = "localhost") -> tuple[str, bytes]:
    """Return the protocol version that was agreed on and the certificate that was shown."""
    with (
        socket.create_connection(("127.0.0.1", port), 10) as raw,
        context.wrap_socket(raw, server_hostname=name) as tls,
    ):
        shown = tls.getpeercert(binary_form=True)
        assert shown is not None
        return str(tls.version()), shown


def old_client(version: ssl.TLSVersion) -> ssl.SSLContext:
    """Return a client that would speak this version and nothing newer, however weak."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.maximum_version = version
    context.minimum_version = version
    return context


@pytest.mark.sslyze
@pytest.mark.parametrize("plane", PLANES)
def test_mozilla_intermediate(live: Live, plane: str) -> None:
    command = [outside.program("sslyze"), "--mozilla_config=intermediate", "--certinfo_ca_file", live.ca]
    done = subprocess.run(
        [*map(str, command), f"localhost:{port_of(live, plane)}"],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert "OK - Compliant" in done.stdout


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_tls_1_0_and_1_1_get_nothing(live: Live, plane: str) -> None:
    for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            handshake(port_of(live, plane), old_client(version))
    # The very same client is served once it may speak 1.2, so what was refused above was the version.
    assert handshake(port_of(live, plane), old_client(ssl.TLSVersion.TLSv1_2))[0] == "TLSv1.2"


@pytest.mark.parametrize("plane", PLANES)
def test_tls_1_3_is_preferred(live: Live, plane: str) -> None:
    assert handshake(port_of(live, plane), live.trust())[0] == "TLSv1.3"


@pytest.mark.parametrize("plane", PLANES)
def test_plain_http_gets_nothing(live: Live, plane: str) -> None:
    with socket.create_connection(("127.0.0.1", port_of(live, plane)), 10) as raw:
        raw.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        received = b""
        try:
            while piece := raw.recv(4096):
                received += piece
        except ConnectionError:
            pass
    # At most a TLS alert (record type 21), never a word of HTTP.
    assert received[:1] in {b"", b"\x15"}
    assert b"HTTP" not in received


@pytest.mark.parametrize(
    "name",
    [
        "localhost",
        "127.0.0.1",
        "::1",
        "demo-openai.ai.stockade.localhost",
        "default.vault.stockade.localhost",
        "management.stockade.localhost",
        "login.stockade.localhost",
        "console.stockade.localhost",
    ],
)
def test_the_certificate_is_for_every_name_of_the_platform(live: Live, name: str) -> None:
    for plane in PLANES:
        handshake(port_of(live, plane), live.trust(), name)


def test_the_certificate_is_for_no_other_name(live: Live) -> None:
    for name in ("example.com", "stockade.localhost.example.com", "a.b.ai.stockade.localhost"):
        with pytest.raises(ssl.SSLCertVerificationError):
            handshake(live.ports[0], live.trust(), name)


def test_the_bundle_trusts_us_and_the_system(live: Live) -> None:
    def trusted(context: ssl.SSLContext) -> set[bytes]:
        return set(context.get_ca_certs(binary_form=True))

    bundle = trusted(ssl.create_default_context(cafile=str(live.bundle)))
    own = trusted(live.trust())
    assert len(own) == 1
    assert own <= bundle
    assert trusted(ssl.create_default_context()) <= bundle


class SlowModel:
    """A server with the OpenAI API whose stream waits in the middle until it is let go."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        model = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                self._event({"choices": [{"index": 0, "delta": {"content": "before"}}]})
                model.go_on.wait(60)
                self._event({"choices": [{"index": 0, "delta": {"content": "after"}}]})
                self._chunk(b"data: [DONE]\n\n")
                self._chunk(b"")

            def _event(self, event: object) -> None:
                self._chunk(b"data: " + json.dumps(event).encode() + b"\n\n")

            def _chunk(self, data: bytes) -> None:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                self.wfile.flush()

            def log_message(self, *_: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]


@contextmanager
def slow_model() -> Iterator[SlowModel]:
    model = SlowModel()
    thread = threading.Thread(target=model.server.serve_forever)
    thread.start()
    try:
        yield model
    finally:
        model.go_on.set()
        model.server.shutdown()
        model.server.server_close()
        thread.join()


def write_pair(folder: Path, *, days: float = 30) -> bytes:
    """Put a self-signed certificate for localhost and its key into place, as an operator's renewal would; return it in DER form."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "operator")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=60))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, SHA256())
    )
    (folder / "operator.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "operator.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate.public_bytes(Encoding.DER)


def shown(live: Live, plane: str = "data") -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return handshake(port_of(live, plane), context)[1]


def test_a_renewed_certificate_is_taken_over_while_a_stream_goes_on(live_server: StartServer, tmp_path: Path) -> None:
    first = write_pair(tmp_path)
    with slow_model() as model:
        live = live_server(
            "--workers",
            "1",
            settings=f"""
            [tls]
            certificate = "{tmp_path / "operator.pem"}"
            key = "{tmp_path / "operator.key"}"
            [[models]]
            name = "slow"
            [models.upstream]
            url = "http://127.0.0.1:{model.port}/v1"
            """,
        )
        assert shown(live) == shown(live, "control") == first
        deploy(live, tmp_path / "operator.pem")
        account = live.account("demo-openai")
        with requests.post(
            f"{account['AZURE_OPENAI_ENDPOINT']}openai/deployments/slow/chat/completions?api-version=2024-10-21",
            json={"messages": [{"role": "user", "content": "x"}], "stream": True},
            headers={"api-key": account["AZURE_OPENAI_API_KEY"]},
            verify=str(tmp_path / "operator.pem"),
            stream=True,
            timeout=60,
        ) as reply:
            lines = reply.iter_lines()
            assert b"before" in next(lines)

            second = write_pair(tmp_path)
            wait_for(lambda: shown(live) == second, "new connections see the new certificate", 60)
            wait_for(lambda: shown(live, "control") == second, "the control plane too", 60)

            model.go_on.set()
            rest = [line for line in lines if line]
        assert b"after" in rest[0]
        assert rest[-1] == b"data: [DONE]"


def deploy(live: Live, trust: Path) -> None:
    """Make the deployment `slow`, trusting the operator's certificate."""
    token = requests.post(
        f"{live.authority}/{live.tenant}/oauth2/v2.0/token",
        data={
            "grant_type": "client_credentials",
            "client_id": live.admin[0],
            "client_secret": live.admin[1],
            "scope": "https://management.azure.com/.default",
        },
        verify=str(trust),
        timeout=30,
    ).json()["access_token"]
    made = requests.put(
        f"{live.arm}{live.account_id('demo-openai')}/deployments/slow?api-version=2025-09-01",
        json={
            "sku": {"name": "Standard", "capacity": 100},
            "properties": {"model": {"format": "OpenAI", "name": "slow", "version": "1"}},
        },
        headers={"authorization": f"Bearer {token}"},
        verify=str(trust),
        timeout=30,
    )
    assert made.status_code in {200, 201}, made.text


def test_a_broken_new_certificate_changes_nothing(live_server: StartServer, tmp_path: Path) -> None:
    first = write_pair(tmp_path)
    files = f'[tls]\ncertificate = "{tmp_path / "operator.pem"}"\nkey = "{tmp_path / "operator.key"}"\n'
    live = live_server("--workers", "1", settings=files)

    def refused(reason: str) -> bool:
        return any("the old one stays" in line and reason in line for line in live.log().splitlines())

    key = (tmp_path / "operator.key").read_bytes()
    write_pair(tmp_path)
    (tmp_path / "operator.key").write_bytes(key)  # the new certificate with the old key
    wait_for(lambda: refused("is not the key of"), "the pair that does not match is refused")
    write_pair(tmp_path, days=-1)
    wait_for(lambda: refused("valid from"), "the certificate that has ended is refused")
    (tmp_path / "operator.pem").write_text("no certificate")
    wait_for(lambda: refused("not a PEM"), "what is no certificate is refused")
    assert shown(live) == shown(live, "control") == first

    good = write_pair(tmp_path)
    wait_for(lambda: shown(live) == good, "a good one is taken after all that", 60)


def test_an_unusable_certificate_stops_the_start(live: Live, tmp_path: Path) -> None:
    write_pair(tmp_path, days=-1)
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    (folder / "settings.toml").write_text(
        f'[tls]\ncertificate = "{tmp_path / "operator.pem"}"\nkey = "{tmp_path / "operator.key"}"\n'
    )
    done = live.cli("serve", "--data-dir", str(folder), check=False)
    assert done.returncode == 1
    assert "The TLS certificate cannot be used" in done.stderr
    assert "Traceback" not in done.stderr
