"""Configuration. Every field has a safe default; sources are file < environment < flag.

The settings file is `<data dir>/settings.toml`; `stockade up` writes a commented example on first start. Secrets never stand in it: an
upstream's credential is named by environment variable or file.
"""

from stockade.settings.sections import (
    Access,
    Audit,
    ConsoleClient,
    Content,
    Decisions,
    Egress,
    Issuer,
    Jobs,
    Keys,
    Limits,
    Listen,
    Lockbox,
    Mail,
    Metadata,
    Model,
    Names,
    Notices,
    Provider,
    Service,
    Sink,
    Tls,
    Upstream,
    Vault,
    Witness,
)
from stockade.settings.sources import DATA_DIR_VARIABLE, OVERRIDES_VARIABLE, default_data_dir, load
from stockade.settings.whole import MAX_SOCKET_DIR_BYTES, Settings

__all__ = [
    "DATA_DIR_VARIABLE",
    "MAX_SOCKET_DIR_BYTES",
    "OVERRIDES_VARIABLE",
    "Access",
    "Audit",
    "ConsoleClient",
    "Content",
    "Decisions",
    "Egress",
    "Issuer",
    "Jobs",
    "Keys",
    "Limits",
    "Listen",
    "Lockbox",
    "Mail",
    "Metadata",
    "Model",
    "Names",
    "Notices",
    "Provider",
    "Service",
    "Settings",
    "Sink",
    "Tls",
    "Upstream",
    "Vault",
    "Witness",
    "default_data_dir",
    "load",
]
