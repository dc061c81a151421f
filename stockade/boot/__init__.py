"""How everything is joined. Read this first.

The one place that may import from everywhere. Each function builds one process's part of the platform from the settings it finds in the
environment; the processes share the data directory (documents, root key, audit log) and eight bytes of memory, the policy generation.

    data_plane()      a worker of the gateway      RSGI   many
    control_plane()   ARM, identity, metadata      ASGI   one
    key_broker()      unwraps keys, on evidence    UNIX   one
    workplace()       what goes on without a caller       one
    audit_office()    writes the audit logs        UNIX   one
"""

from stockade.boot.audit_log import AuditOffice, audit_office
from stockade.boot.background import Background
from stockade.boot.control_plane import (
    control_plane,
    identity_services,
    management_pipeline,
    management_platform,
    vault_app,
)
from stockade.boot.data_plane import WebSocketAddress, contents, data_plane, kept_content
from stockade.boot.foundation import Foundation, async_broker, client_address, foundation
from stockade.boot.key_broker import key_broker, key_watch
from stockade.boot.work import workplace

__all__ = [
    "AuditOffice",
    "Background",
    "Foundation",
    "WebSocketAddress",
    "async_broker",
    "audit_office",
    "client_address",
    "contents",
    "control_plane",
    "data_plane",
    "foundation",
    "identity_services",
    "kept_content",
    "key_broker",
    "key_watch",
    "management_pipeline",
    "management_platform",
    "vault_app",
    "workplace",
]
