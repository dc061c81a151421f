"""How the parts are joined, where a wrong joint would go unnoticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from stockade.boot.control_plane import identity_services
from stockade.boot.foundation import async_broker, foundation
from stockade.boot.key_broker import key_broker
from stockade.broker.service import KeyBroker
from stockade.kernel.faults import Fault
from stockade.keys.broker_async import AsyncBrokerClient, BrokerInThreads
from stockade.keys.broker_client import SOCKET_VARIABLE, BrokerClient
from stockade.keys.root import RootKey
from stockade.settings import Keys, Settings
from stockade.storage.database import Database


@pytest.mark.parametrize(
    ("proxies", "recorded"), [((), "127.0.0.1"), (("127.0.0.1",), "203.0.113.9"), (("10.0.0.0/8",), "127.0.0.1")]
)
def test_token_requests_are_recorded_with_the_address_a_trusted_proxy_reports(
    tmp_path: Path, proxies: tuple[str, ...], recorded: str
) -> None:
    settings = Settings(data_dir=tmp_path, trusted_proxies=proxies)
    RootKey.create(settings.root_key_file)
    services = identity_services(foundation(settings))
    assert services.client_address("127.0.0.1", "198.51.100.7, 203.0.113.9") == recorded
    assert services.client_address("::1", "203.0.113.9") == "::1"


def test_a_process_asks_the_broker_that_its_environment_or_the_settings_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(data_dir=tmp_path)
    RootKey.create(settings.root_key_file)
    own = foundation(settings)
    assert isinstance(own.broker, KeyBroker)
    assert isinstance(async_broker(own), BrokerInThreads)
    elsewhere = Settings(data_dir=tmp_path, keys=Keys(broker_socket=str(tmp_path / "b.sock")))
    for configured, variable in ((settings, str(tmp_path / "b.sock")), (elsewhere, "")):
        monkeypatch.setenv(SOCKET_VARIABLE, variable)
        asked = foundation(configured)
        assert isinstance(asked.broker, BrokerClient)
        assert isinstance(async_broker(asked), AsyncBrokerClient)
        with pytest.raises(Fault, match="cannot be reached"):
            asked.root_key.derive("x")
        _, broker = key_broker(configured)
        assert not broker.status().sealed, "the broker's own process does not ask itself"


def test_a_broker_with_a_data_directory_of_its_own_sees_what_others_commit(tmp_path: Path) -> None:
    shared = f"sqlite:///{tmp_path / 'platform.db'}"
    database = Database(shared)
    database.migrate()
    settings = Settings(data_dir=tmp_path / "keys", database_url=shared)
    settings.data_dir.mkdir(mode=0o700)
    RootKey.create(settings.root_key_file)
    base, _ = key_broker(settings, alone=True)
    before = base.source.current().generation
    with database.write() as writer:
        writer.put("/providers/tests/x", "tests/x", {})
    assert base.source.current().generation == before + 1
    base.database.close()
    database.close()
