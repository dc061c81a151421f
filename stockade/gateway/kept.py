"""What an account keeps, opened for one call: with what its caller presented, and with no way to write where the account keeps nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from stockade.content.closed import KeepsNothing
from stockade.content.item import AccountContent
from stockade.content.job_grants import JobStarter
from stockade.gateway.credential import Presented
from stockade.kernel.evidence import CallerKey, CallerToken, Evidence
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.principal import Credential, KeyCredential
from stockade.kernel.secret import Secret
from stockade.services.service import Call

OpenContent: TypeAlias = Callable[[str, Evidence, str, str], AccountContent]
"""From account id, evidence, data action and who asks to what the account keeps (`content/`'s factory)."""

StartJobs: TypeAlias = Callable[[str, Evidence, str], JobStarter]
"""From account id, evidence and data action to what starts jobs with it."""


def evidence(presented: Presented, credential: Credential | None) -> Evidence:
    """Return what a caller presented, for the key broker: the key, or the token without `aad#` and resource id."""
    if isinstance(credential, KeyCredential) and not credential.via_token:
        return CallerKey(Secret(presented.key))
    token = presented.bearer
    return CallerToken(Secret(token.rpartition("#")[2] if token.startswith("aad#") else token))


class KeptContent:
    """Gives calls of operations that keep content what they need. open_content None: this process keeps nothing; jobs None: it starts none."""

    def __init__(self, open_content: OpenContent | None, max_file_bytes: int, jobs: StartJobs | None = None) -> None:
        self._open, self.max_file_bytes, self._jobs = open_content, max_file_bytes, jobs

    def offer(self, call: Call, presented: Presented) -> None:
        """Give a call what it needs, or what gets it where it is needed only on request."""
        if call.operation.stores == "customer-content":
            self.give(call, presented)
        elif call.operation.stores == "on-request":
            call.opens = partial(self.give, call, presented)

    def give(self, call: Call, presented: Presented) -> None:
        """Set `call.evidence`, `call.content` and `call.jobs`; Fault(UNAVAILABLE) where nothing is kept."""
        operation, account = call.operation, call.account
        if self._open is None or operation.data_action is None:
            raise Fault(FaultKind.UNAVAILABLE, "This process of the platform keeps no content.")
        call.evidence = evidence(presented, call.credential)
        opened = self._open(account.id, call.evidence, operation.data_action, f"data-worker {operation.name}")
        call.content = opened if account.keeps_content else KeepsNothing(opened)
        if self._jobs is not None:
            call.jobs = self._jobs(account.id, call.evidence, operation.data_action)
