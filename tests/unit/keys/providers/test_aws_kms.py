"""What of AWS KMS is not every provider's: keys by name, deletion, and endpoints that do not answer. On moto's server."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import boto3
import pytest

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.keys.material import KeyRequest, KeySpec
from stockade.keys.providers.aws_kms import AwsKmsProvider
from stockade.keys.providers.provider import NamedKeys
from stockade.settings import Provider
from tests.factories import kms

SEAL = Secret(bytes(32))
REGION = "eu-central-1"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with kms.kms() as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TESTS_KMS_CREDENTIAL", kms.CREDENTIAL)
        yield url


def place(url: str) -> Provider:
    return Provider(
        name="kms", type="aws-kms", url=url, place=REGION, credential_env="TESTS_KMS_CREDENTIAL", timeout_s=10.0
    )


@pytest.fixture
def provider(url: str) -> Iterator[AwsKmsProvider]:
    provider = AwsKmsProvider(place(url), SEAL)
    yield provider
    provider.close()


def test_deleted_is_scheduled_and_cannot_be_used_meanwhile(provider: AwsKmsProvider, url: str) -> None:
    key = provider.create(KeySpec(type="EC", curve="P-256K"), "a")
    client = boto3.client("kms", region_name=REGION, endpoint_url=url, aws_access_key_id="x", aws_secret_access_key="y")
    made = client.list_keys()["Keys"][-1]["KeyId"]
    assert client.describe_key(KeyId=made)["KeyMetadata"]["KeyUsage"] == "SIGN_VERIFY"
    provider.destroy(key.handle, "a")
    state = client.describe_key(KeyId=made)["KeyMetadata"]
    assert state["KeyState"] == "PendingDeletion"
    with pytest.raises(Fault) as caught:
        provider.use(key.handle, key.public, KeyRequest(use="sign", algorithm="ES256K", value=bytes(32)), "a")
    assert caught.value.kind is FaultKind.UNAVAILABLE


def test_symmetric_keys_wrap_by_id_and_alias(provider: AwsKmsProvider, url: str) -> None:
    assert isinstance(provider, NamedKeys)
    client = boto3.client("kms", region_name=REGION, endpoint_url=url, aws_access_key_id="x", aws_secret_access_key="y")
    made = client.create_key()["KeyMetadata"]
    client.create_alias(AliasName="alias/root", TargetKeyId=made["KeyId"])
    value = os.urandom(32)
    for name in (made["KeyId"], made["Arn"], "alias/root"):
        wrapped, used = provider.wrap_named(name, value)
        assert used == made["Arn"]
        assert provider.unwrap_named(used, wrapped) == value
    with pytest.raises(Fault) as caught:
        provider.unwrap_named(made["Arn"], wrapped[:-1] + bytes([wrapped[-1] ^ 1]))
    assert caught.value.kind is FaultKind.INVALID
    # What the key has wrapped for another purpose is not taken for the root key.
    other = client.encrypt(KeyId=made["KeyId"], Plaintext=value)["CiphertextBlob"]
    with pytest.raises(Fault) as caught:
        provider.unwrap_named(made["Arn"], other)
    assert caught.value.kind is FaultKind.INVALID
    with pytest.raises(Fault) as caught:
        provider.wrap_named("alias/no-such", value)
    assert caught.value.kind is FaultKind.UNAVAILABLE


def test_an_endpoint_that_does_not_answer(url: str) -> None:
    provider = AwsKmsProvider(place("http://127.0.0.1:1"), SEAL)
    with pytest.raises(Fault) as caught:
        provider.check()
    assert caught.value.kind is FaultKind.UNAVAILABLE
    provider.close()


def test_settings_that_name_no_region(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    with pytest.raises(Fault) as caught:
        AwsKmsProvider(Provider(name="kms", type="aws-kms"), SEAL)
    assert caught.value.kind is FaultKind.UNAVAILABLE
    assert "NoRegion" in caught.value.message


def test_the_makers_log_does_not_hold_answers(provider: AwsKmsProvider) -> None:
    assert logging.getLogger("botocore.parsers").getEffectiveLevel() >= logging.INFO
