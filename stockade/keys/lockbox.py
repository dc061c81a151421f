"""What the key broker does for Customer Lockbox; a part of `Broker`. And what it remembers that no database may make it forget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from stockade.kernel.evidence import ArmToken
from stockade.kernel.secret import Secret
from stockade.lockbox.signature import Signed

if TYPE_CHECKING:
    from stockade.keys.broker import WrappedDataKey  # which has this among its parts


class Challenge(msgspec.Struct, frozen=True):
    """What an approval has to contain for the broker to take it: its nonce for one request, and the statement in force (digest).

    It is worth something as long as this broker's process lives: what memory alone knows, nobody can put back from a backup. After a restart the
    request is opened anew, under its id, by the operator or by whoever is about to approve it; and what was granted before has ended.
    """

    nonce: str
    statement: str
    expires_at: float


class Lent(msgspec.Struct, frozen=True):
    """A grant: evidence together with the operator's token, for reading what is in its scope, until it ends."""

    grant: Secret
    expires_at: float


class LockboxKeys(Protocol):
    """Faults: PERMISSION_DENIED for what was not signed so, UNAUTHENTICATED, NOT_FOUND, CONFLICT for a statement that does not continue the last."""

    def bind_statement(self, account_id: str, signed: Signed, evidence: ArmToken) -> tuple[WrappedDataKey, ...]:
        """Return the account's data keys wrapped along with a statement, and a new one, last, that content is kept under from now on.

        The first statement takes evidence of somebody who may write the account's Lockbox policy and is one of its approvers; each further one
        takes the signatures of the approvers of the one before. Nothing is stored here but that this is the newest statement.
        """
        ...

    def open_request(self, account_id: str, request_id: str, evidence: ArmToken) -> Challenge:
        """Give a request its challenge, the same one while process and statement last; Fault(PERMISSION_DENIED) where nobody could sign for it.

        evidence: of an operator (data action `Stockade.Lockbox/requests/write`), or of an approver of the statement: the challenge says
        nothing of who may read what. That stands in the approval. A request that was revoked, or has ended, is not opened again.
        """
        ...

    def grant_access(self, request_id: str, signed: Signed, evidence: ArmToken) -> Lent:
        """Return a grant for what has been signed, to the operator named there, who shows a token of their own. The same for a broken glass.

        A record is in the account's log before this returns. Asked again while the approval is valid, it gives a grant for what is left.
        Fault(CONFLICT, code ChallengeOver) for an approval with a challenge from before the broker's restart: open the request, have it signed.
        """
        ...

    def revoke_access(self, request_id: str) -> None:
        """End all grants of a request for good; nothing signed for it is taken any more. For whoever asks: it only takes away."""
        ...
