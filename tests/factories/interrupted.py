"""First starts that are killed: one after each durable step, and then done again. Run as a program in a folder; prints one JSON line per kill.

Every step that outlives the process is counted (a file put into place, a transaction committed). A forked child ends without warning right before
the n-th, which is also right after the one before it; a second child does the first start undisturbed and the state it leaves is looked at.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography import x509
from sqlalchemy import Connection

from stockade import settings
from stockade.boot.foundation import foundation
from stockade.identity.client_secrets import SecretDigester
from stockade.identity.principals import PRINCIPAL_TYPE
from stockade.identity.tenant import TYPE as TENANTS
from stockade.serve import first_start
from stockade.serve.administrator import Administrator
from stockade.settings import Settings

KILLED = 9


def kill_before(step: int) -> None:
    """Make this process end without warning right before its n-th durable step."""
    done = 0

    def interrupted(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal done
            done += 1
            if done == step:
                os._exit(KILLED)
            return original(*arguments, **named)

        return call

    Path.replace = interrupted(Path.replace)  # type: ignore[method-assign]
    Connection.commit = interrupted(Connection.commit)  # type: ignore[method-assign]


def in_child(work: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as failure:  # noqa: BLE001 - whatever it is, this child must not go on as the parent
            sys.stderr.write(f"{failure!r}\n")
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def state(configured: Settings) -> dict[str, Any]:
    """Describe what a first start has left."""
    base = foundation(configured)
    admin = Administrator.open(configured)
    with base.database.read() as reader:
        principals = reader.list(PRINCIPAL_TYPE)
        administrators = [document for document in principals if document.body["kind"] == "application"]
        digests = [entry["digest"] for entry in administrators[0].private["secrets"]]
        account = f"/subscriptions/{admin.subscription_id}/resourcegroups/{admin.resource_group}/providers"
        account += f"/microsoft.cognitiveservices/accounts/{first_start.DEMO_ACCOUNT}"
        owners = reader.list("microsoft.authorization/roleassignments", subscription=admin.subscription_id)
        found = {
            "tenants": len(reader.list(TENANTS)),
            "subscriptions": len(reader.list("microsoft.resources/subscriptions")),
            "administrators": len(administrators),
            "secret works": SecretDigester(base.root_key).digest(admin.client_id, admin.client_secret) in digests,
            "assignments": len(owners),
            "account": reader.get(account) is not None,
            "deployments": sorted(
                document.name for document in reader.below(account) if "deployments" in document.type
            ),
            "machines": sum(document.body["kind"] == "machine" for document in principals),
        }
    base.database.close()
    authority = x509.load_pem_x509_certificate(configured.ca_file.read_bytes())
    x509.load_pem_x509_certificate(configured.certificate_file.read_bytes()).verify_directly_issued_by(authority)
    found["leftovers"] = [path.name for path in configured.data_dir.rglob(".*")]
    return found


def main(folder: Path) -> None:
    step = 0
    while True:
        step += 1
        configured = settings.load(folder / str(step), environment={})

        def disturbed(step: int = step, configured: Settings = configured) -> None:
            kill_before(step)
            first_start.ensure(configured)

        ended = in_child(disturbed)
        again = in_child(lambda configured=configured: first_start.ensure(configured) and None)
        found: dict[str, Any] = state(configured) if again == 0 else {}
        print(json.dumps({"step": step, "ended": ended, "again": again, "state": found}), flush=True)
        if ended == 0:
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]))
