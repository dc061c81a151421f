"""Applications that prove themselves with a certificate: registered with the command line, used by the unmodified azure-identity and openai."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import openai
import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import CertificateCredential
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA1

from tests.factories.identity import client_certificate
from tests.live import Live

AI = "https://cognitiveservices.azure.com/.default"
ARM = "https://management.azure.com/.default"


def login(live: Live, application: Mapping[str, str], file: Path) -> CertificateCredential:
    return CertificateCredential(
        live.tenant,
        application["clientId"],
        str(file),
        authority=live.authority,
        disable_instance_discovery=True,
        connection_verify=str(live.bundle),
    )


def test_a_certificate_instead_of_a_secret(live: Live, tmp_path: Path) -> None:
    application = live.identity("certificate-app")
    file, _ = client_certificate(tmp_path)
    with login(live, application, file) as credential:
        with pytest.raises(ClientAuthenticationError, match="AADSTS700027"):
            credential.get_token(ARM)

        printed = live.stockade("identity", "certificate", "certificate-app", "--file", str(file))
        thumbprint = x509.load_pem_x509_certificate(file.read_bytes()).fingerprint(SHA1()).hex().upper()
        [listed] = json.loads(live.stockade("identity", "certificate", application["clientId"], "--format", "json"))
        assert listed["thumbprint"] == thumbprint and listed["keyId"] in printed and thumbprint in printed
        assert "PRIVATE" not in printed

        token = credential.get_token(AI).token
        with (
            openai.AzureOpenAI(
                azure_endpoint=live.account("demo-openai")["AZURE_OPENAI_ENDPOINT"],
                azure_ad_token=token,
                api_version="2024-10-21",
                max_retries=0,
                http_client=openai.DefaultHttpxClient(verify=live.trust()),
            ) as client,
            pytest.raises(openai.AuthenticationError, match=application["objectId"]),
        ):
            client.models.list()  # known, and without a role

        live.stockade("identity", "disable", application["objectId"])
        with login(live, application, file) as again, pytest.raises(ClientAuthenticationError, match="AADSTS7000112"):
            again.get_token(ARM)
        live.stockade("identity", "enable", application["objectId"])

        live.stockade("identity", "certificate", application["objectId"], "--remove", listed["keyId"])
        with login(live, application, file) as again, pytest.raises(ClientAuthenticationError, match="AADSTS700027"):
            again.get_token(ARM)


def test_files_that_hold_no_certificate(live: Live, tmp_path: Path) -> None:
    _, key = client_certificate(tmp_path)
    for file in (key, tmp_path / "missing.pem", tmp_path):
        done = live.cli("identity", "certificate", "administrator", "--file", str(file), check=False)
        assert done.returncode == 2 and "Traceback" not in done.stderr
    both = live.cli("identity", "certificate", "x", "--file", str(key), "--remove", "y", check=False)
    assert both.returncode == 2
