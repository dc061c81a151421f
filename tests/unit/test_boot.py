"""How the parts are joined, where a wrong joint would go unnoticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from stockade import boot
from stockade.keys.root import RootKey
from stockade.settings import Settings


@pytest.mark.parametrize(
    ("proxies", "recorded"), [((), "127.0.0.1"), (("127.0.0.1",), "203.0.113.9"), (("10.0.0.0/8",), "127.0.0.1")]
)
def test_token_requests_are_recorded_with_the_address_a_trusted_proxy_reports(
    tmp_path: Path, proxies: tuple[str, ...], recorded: str
) -> None:
    settings = Settings(data_dir=tmp_path, trusted_proxies=proxies)
    RootKey.create(settings.root_key_file)
    services = boot.identity_services(boot.foundation(settings))
    assert services.client_address("127.0.0.1", "198.51.100.7, 203.0.113.9") == recorded
    assert services.client_address("::1", "203.0.113.9") == "::1"
