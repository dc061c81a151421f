"""Settings: file, then environment, then flags; what is misspelt or of the wrong type is an error that names it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stockade import settings
from stockade.settings import DATA_DIR_VARIABLE, OVERRIDES_VARIABLE, Names, Settings, default_data_dir, load


def write(folder: Path, text: str) -> None:
    (folder / "settings.toml").write_text(text)


def test_without_a_file_everything_has_a_safe_default(tmp_path: Path) -> None:
    loaded = load(tmp_path, environment={})
    assert loaded == Settings(data_dir=tmp_path)
    assert loaded.listen.host == "127.0.0.1"
    assert loaded.database == f"sqlite:///{tmp_path / 'stockade.db'}"


def test_flags_win_over_the_environment_and_it_over_the_file(tmp_path: Path) -> None:
    write(tmp_path, 'database_url = "file"\n[listen]\ndata_port = 1\ncontrol_port = 1\nmetadata_port = 1\n')
    environment = {
        "STOCKADE_DATABASE_URL": "environment",
        OVERRIDES_VARIABLE: json.dumps({"listen": {"control_port": 2, "metadata_port": 2}}),
    }
    loaded = load(tmp_path, {"listen": {"metadata_port": 3, "host": None}, "strict_parity": None}, environment)
    assert loaded.database_url == "environment"
    assert (loaded.listen.data_port, loaded.listen.control_port, loaded.listen.metadata_port) == (1, 2, 3)
    assert loaded.listen.host == "127.0.0.1"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("databse_url = 'x'", "databse_url"),
        ("[listen]\nport = 1", "port"),
        ("[listen]\ndata_port = 'x'", "data_port"),
        ("[limits]\nmax_body_bytes = 1.5", "max_body_bytes"),
        ("trusted_proxies = '10.0.0.0/8'", "trusted_proxies"),
        ("trusted_proxies = ['10.0.0.300']", "trusted_proxies"),
        ("[listen]\nprivate_networks = ['10.0.0.0/33']", "private_networks"),
        ("[listen]\nprivate_networks = '10.0.0.0/8'", "private_networks"),
        ("[[models]]\nname = 'x'\n[models.upstream]\nurl = 5", "url"),
        ("[[models]]\nversion = 'x'", "name"),
        ("listen = 5", "listen"),
        ("not toml", "settings.toml"),
        ("strict_parity = 1", "strict_parity"),
        ("[listen]\ndata_port = 70000", "data_port"),
        ("[listen]\nworkers = -1", "workers"),
        ("[limits]\nmax_body_bytes = -5", "max_body_bytes"),
        ("[limits]\nbody_timeout_s = 0", "body_timeout_s"),
        ("[audit]\nrotate_bytes = 0", "rotate_bytes"),
        ("[audit]\nkeep_files = 0", "keep_files"),
    ],
)
def test_mistake_in_the_file_names_the_file_and_the_field(tmp_path: Path, text: str, said: str) -> None:
    write(tmp_path, text)
    with pytest.raises(ValueError, match=said) as caught:
        load(tmp_path, environment={})
    assert "settings.toml" in str(caught.value)


def test_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"settings\.toml"):
        load(tmp_path, environment={})


def test_data_directory_is_the_environments_or_the_users(tmp_path: Path) -> None:
    assert default_data_dir({DATA_DIR_VARIABLE: str(tmp_path)}) == tmp_path
    assert default_data_dir({}).name == "stockade"
    assert default_data_dir({DATA_DIR_VARIABLE: "relative"}).is_absolute()


def test_addresses_are_paths_on_localhost_until_there_is_a_domain() -> None:
    bare, named = Settings(), Settings(names=Names(domain="example.test", location="lab"))
    assert bare.account_endpoint("a1") == "https://localhost:8443/a1/"
    assert bare.account_endpoint(None) == "https://localhost:8443/"
    assert bare.arm_endpoint == bare.authority == bare.console_endpoint == "https://localhost:8444"
    assert named.account_endpoint("a1") == "https://a1.ai.example.test:8443/"
    assert named.account_endpoint(None) == "https://lab.api.example.test:8443/"
    assert (named.arm_endpoint, named.authority, named.console_endpoint) == (
        "https://management.example.test:8444",
        "https://login.example.test:8444",
        "https://console.example.test:8444",
    )


def test_sockets_of_a_deep_directory_lie_where_their_addresses_fit() -> None:
    deep = Settings(data_dir=Path("/" + "x" * 200))
    assert len(str(deep.supervisor_socket).encode()) < 100
    assert deep.socket_dir != Settings(data_dir=Path("/" + "y" * 200)).socket_dir
    assert Settings(data_dir=Path("/data")).socket_dir == Path("/data/run")


def test_settings_hold_no_secret_of_an_upstream() -> None:
    names = set(settings.Upstream.__struct_fields__)
    assert {"credential_env", "credential_file"} <= names
    assert not names & {"key", "credential", "password", "token", "api_key"}


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ("[access]\nanswer_days = [5, 3]", "access.answer_days"),
        ("[access]\nanswer_days = [0, 3]", "access.answer_days"),
        ('[access]\nholidays = ["25.12.2026"]', "access.holidays"),
        ('[notices]\nwebhook = "http://example.com/"\nwebhook_secret_env = "X"', "notices.webhook"),
        ('[notices]\nwebhook = "https://u:p@example.com/"\nwebhook_secret_env = "X"', "notices.webhook"),
        ('[notices]\nwebhook = "https://example.com/"', "notices.webhook"),
        ('[notices.mail]\nhost = "mail.example.com"', "notices.mail.sender"),
        ('[notices.mail]\nuser = "x"', "notices.mail.user"),
        ('[notices.mail]\nuser = "x"\ncredential_env = "X"\ntls = "none"', "notices.mail.tls"),
    ],
)
def test_who_is_told_and_by_when_is_checked_when_read(tmp_path: Path, content: str, where: str) -> None:
    (tmp_path / "settings.toml").write_text(content)
    with pytest.raises(ValueError, match=where):
        load(tmp_path, environment={})


@pytest.mark.parametrize(
    ("kind", "name", "url", "where"),
    [
        ("file", "a", "https://example.com", "audit.sinks.url"),
        ("file", "a", "file://host/var/log", "audit.sinks.url"),
        ("file", "a", "file:///", "audit.sinks.url"),
        ("syslog", "a", "udp://example.com:514", "audit.sinks.url"),
        ("syslog", "a", "tls://", "audit.sinks.url"),
        ("http", "a", "http://example.com/in", "audit.sinks.url"),
        ("http", "a", "https://user:word@example.com/in", "audit.sinks.url"),
        ("http", "a", "https://example.com:port/in", "audit.sinks.url"),
        ("otlp", "a", "http://127.0.0.1.example.com/", "audit.sinks.url"),
        ("file", "../a", "file:///var/log", "audit.sinks.name"),
        ("file", "", "file:///var/log", "audit.sinks.name"),
    ],
)
def test_where_records_go_is_checked_when_read(tmp_path: Path, kind: str, name: str, url: str, where: str) -> None:
    write(tmp_path, f'[[audit.sinks]]\nname = "{name}"\ntype = "{kind}"\nurl = "{url}"')
    with pytest.raises(ValueError, match=where):
        load(tmp_path, environment={})


def test_two_sinks_have_two_names(tmp_path: Path) -> None:
    sink = '[[audit.sinks]]\nname = "{}"\ntype = "file"\nurl = "file:///var/log"\n'
    write(tmp_path, sink.format("siem") + sink.format("SIEM"))
    with pytest.raises(ValueError, match="two sinks are called"):
        load(tmp_path, environment={})


@pytest.mark.parametrize("url", ["http://example.com/", "tls://example.com", "file://elsewhere/x"])
def test_witnesses_are_files_or_https(tmp_path: Path, url: str) -> None:
    write(tmp_path, f'[[audit.witnesses]]\nurl = "{url}"')
    with pytest.raises(ValueError, match=r"audit\.witnesses\.url"):
        load(tmp_path, environment={})


def test_records_may_go_to_http_on_this_machine(tmp_path: Path) -> None:
    write(tmp_path, '[[audit.sinks]]\nname = "a"\ntype = "http"\nurl = "http://[::1]:9000/in"')
    assert load(tmp_path, environment={}).audit.sinks[0].name == "a"


@pytest.mark.parametrize(
    ("console", "where"),
    [
        ('name = "Contoso!"\nclient_id = "c"', "issuers.console.name"),
        ('name = "contoso"\nclient_id = ""', "issuers.console"),
        ('name = "contoso"\nclient_id = "c"\nscope = "profile"', "issuers.console"),
    ],
    ids=["name", "no client", "no openid"],
)
def test_console_of_an_issuer_is_checked_when_read(tmp_path: Path, console: str, where: str) -> None:
    (tmp_path / "settings.toml").write_text(f'[[issuers]]\nissuer = "https://id.example"\n[issuers.console]\n{console}')
    with pytest.raises(ValueError, match=rf"at `\$\.{where}`"):
        settings.load(tmp_path, environment={})
