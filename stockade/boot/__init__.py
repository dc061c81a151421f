"""How everything is joined. Read this first.

The one place that may import from everywhere. Each function builds one process's part of the platform from the settings it finds in the
environment; the processes share the data directory (documents, root key, audit log) and eight bytes of memory, the policy generation.

    data_plane.data_plane()         a worker of the gateway      RSGI   many
    control_plane.control_plane()   ARM, identity, metadata      ASGI   one
    key_broker.key_broker()         unwraps keys, on evidence    UNIX   one
    work.workplace()                what goes on without a caller       one
    audit_log.audit_office()        writes the audit logs        UNIX   one

All begin with `foundation.foundation()`. Nothing is imported here: a server is half a dozen processes, and none loads what only others serve.
"""
