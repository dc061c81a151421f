"""What goes over the key broker's socket: frames of msgpack, a length of four bytes before each. One call, one answer, many per connection.

Each method of `Broker` is a struct here, tagged with the method's name; its fields are the parameters. Secrets travel as bytes: whoever can
read that socket is this user, and the kernel is all that lies between.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

import msgspec

from stockade.kernel.evidence import ArmToken, CallerKey, CallerToken, Evidence, JobGrant, OperatorGrant
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.keys.broker import Access, Binding, JobScope, ObjectRef, WrappedDataKey
from stockade.keys.material import KeyRequest, KeySpec
from stockade.keys.request_receipts import Receipt
from stockade.lockbox.signature import Signed

MAX_FRAME: Final = 1024 * 1024
HEADER: Final = 4
MAX_OBJECTS: Final = 1000
"""Of one `object_keys`."""


class Shown(msgspec.Struct, frozen=True):
    """Evidence on the wire. token: the operator's, beside a grant."""

    kind: Literal["key", "token", "job", "arm", "operator"]
    value: Secret
    token: Secret | None = None

    @property
    def evidence(self) -> Evidence:
        match self.kind:
            case "key":
                return CallerKey(self.value)
            case "token":
                return CallerToken(self.value)
            case "job":
                return JobGrant(self.value)
            case "arm":
                return ArmToken(self.value)
            case "operator":
                return OperatorGrant(self.value, self.token or Secret(b""))


def shown(evidence: Evidence) -> Shown:
    """Return evidence as it goes over the wire."""
    match evidence:
        case CallerKey(key=value):
            return Shown("key", value)
        case CallerToken(token=value):
            return Shown("token", value)
        case JobGrant(grant=value):
            return Shown("job", value)
        case ArmToken(token=value):
            return Shown("arm", value)
        case OperatorGrant(grant=value, token=token):
            return Shown("operator", value, token)


class _Call(msgspec.Struct, frozen=True, tag_field="call"):
    pass


class ObjectKeysCall(_Call, frozen=True, tag="object_keys"):
    """`Broker.object_keys`."""

    account_id: str
    objects: tuple[ObjectRef, ...]
    access: Access
    data_action: str
    evidence: Shown
    asked_by: str


class JobGrantCall(_Call, frozen=True, tag="job_grant"):
    """`Broker.job_grant`."""

    account_id: str
    job: str
    scope: JobScope
    data_action: str
    evidence: Shown


class NewDataKeyCall(_Call, frozen=True, tag="new_data_key"):
    """`Broker.new_data_key`."""

    account_id: str
    binding: Binding | None
    evidence: Shown


class RewrapCall(_Call, frozen=True, tag="rewrap"):
    """`Broker.rewrap`."""

    account_id: str
    held: WrappedDataKey
    before: Binding | None
    after: Binding | None
    evidence: Shown | None


class BindStatementCall(_Call, frozen=True, tag="bind_statement"):
    """`Broker.bind_statement`."""

    account_id: str
    signed: Signed
    evidence: Shown


class OpenRequestCall(_Call, frozen=True, tag="open_request"):
    """`Broker.open_request`."""

    account_id: str
    request_id: str
    evidence: Shown


class GrantAccessCall(_Call, frozen=True, tag="grant_access"):
    """`Broker.grant_access`."""

    request_id: str
    signed: Signed
    evidence: Shown


class RevokeAccessCall(_Call, frozen=True, tag="revoke_access"):
    """`Broker.revoke_access`."""

    request_id: str


class MakeKeyCall(_Call, frozen=True, tag="make_key"):
    """`Broker.make_key`."""

    provider: str
    spec: KeySpec
    version_id: str
    evidence: Shown | None
    asked_by: str


class TakeKeyCall(_Call, frozen=True, tag="take_key"):
    """`Broker.take_key`."""

    provider: str
    spec: KeySpec
    private: dict[str, Secret]
    version_id: str
    evidence: Shown
    asked_by: str


class UseKeyCall(_Call, frozen=True, tag="use_key"):
    """`Broker.use_key`."""

    version_id: str
    request: KeyRequest
    evidence: Shown
    asked_by: str


class DestroyKeyCall(_Call, frozen=True, tag="destroy_key"):
    """`Broker.destroy_key`."""

    provider: str
    handle: bytes
    version_id: str


class BackUpKeyCall(_Call, frozen=True, tag="back_up_key"):
    """`Broker.back_up_key`."""

    version_id: str
    evidence: Shown
    asked_by: str


class RestoreKeyCall(_Call, frozen=True, tag="restore_key"):
    """`Broker.restore_key`."""

    provider: str
    backup: bytes
    version_id: str
    evidence: Shown
    asked_by: str


class SealSecretCall(_Call, frozen=True, tag="seal_secret"):
    """`Broker.seal_secret`."""

    value: Secret
    version_id: str


class OpenSecretCall(_Call, frozen=True, tag="open_secret"):
    """`Broker.open_secret`."""

    sealed: bytes
    version_id: str
    evidence: Shown
    asked_by: str


class BackUpSecretCall(_Call, frozen=True, tag="back_up_secret"):
    """`Broker.back_up_secret`."""

    sealed: bytes
    version_id: str
    evidence: Shown
    asked_by: str


class RestoreSecretCall(_Call, frozen=True, tag="restore_secret"):
    """`Broker.restore_secret`."""

    backup: bytes
    version_id: str
    evidence: Shown
    asked_by: str


class RandomCall(_Call, frozen=True, tag="random"):
    """`Broker.random`."""

    provider: str
    count: int


class PurposeKeyCall(_Call, frozen=True, tag="purpose_key"):
    """`Broker.purpose_key`."""

    purpose: str


class SignCall(_Call, frozen=True, tag="sign"):
    """`Broker.sign`."""

    statement: bytes


class ReceiptKeyCall(_Call, frozen=True, tag="receipt_key"):
    """`Broker.receipt_key`."""


class SignTreeHeadCall(_Call, frozen=True, tag="sign_tree_head"):
    """`Broker.sign_tree_head`."""

    log: str
    size: int
    root: bytes
    time: float
    consistency: tuple[bytes, ...]


class TreeHeadKeyCall(_Call, frozen=True, tag="tree_head_key"):
    """`Broker.tree_head_key`."""


class SignReceiptCall(_Call, frozen=True, tag="sign_receipt"):
    """`Broker.sign_receipt`."""

    receipt: Receipt


class RequestReceiptKeyCall(_Call, frozen=True, tag="request_receipt_key"):
    """`Broker.request_receipt_key`."""


class RotatePlatformCall(_Call, frozen=True, tag="rotate_platform"):
    """`Broker.rotate_platform`."""


class StatusCall(_Call, frozen=True, tag="status"):
    """`Broker.status`."""


class SealCall(_Call, frozen=True, tag="seal"):
    """`Broker.seal`."""


class UnsealCall(_Call, frozen=True, tag="unseal"):
    """`Broker.unseal`."""

    share: Secret


Call: TypeAlias = (
    ObjectKeysCall
    | JobGrantCall
    | NewDataKeyCall
    | RewrapCall
    | BindStatementCall
    | OpenRequestCall
    | GrantAccessCall
    | RevokeAccessCall
    | MakeKeyCall
    | TakeKeyCall
    | UseKeyCall
    | DestroyKeyCall
    | BackUpKeyCall
    | RestoreKeyCall
    | SealSecretCall
    | OpenSecretCall
    | BackUpSecretCall
    | RestoreSecretCall
    | RandomCall
    | PurposeKeyCall
    | SignCall
    | ReceiptKeyCall
    | SignTreeHeadCall
    | TreeHeadKeyCall
    | SignReceiptCall
    | RequestReceiptKeyCall
    | RotatePlatformCall
    | StatusCall
    | SealCall
    | UnsealCall
)


class Refused(msgspec.Struct, frozen=True, omit_defaults=True):
    """A Fault on the wire."""

    kind: FaultKind
    message: str
    code: str | None = None
    target: str | None = None
    retry_after_s: float | None = None
    details: dict[str, Any] = {}


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a call gave, or why it gave nothing."""

    value: msgspec.Raw = msgspec.Raw(b"\xc0")
    refused: Refused | None = None


def _to_wire(value: object) -> object:
    if isinstance(value, Secret):
        return value.reveal()
    raise NotImplementedError(type(value).__name__)


def _from_wire(wanted: type, value: object) -> object:
    if wanted is Secret and isinstance(value, bytes):
        return Secret(value)
    raise NotImplementedError(wanted.__name__)


_encoder = msgspec.msgpack.Encoder(enc_hook=_to_wire)
_calls = msgspec.msgpack.Decoder(Call, dec_hook=_from_wire)
_answers = msgspec.msgpack.Decoder(Answer)


def frame(message: object) -> bytes:
    """Return a message with its length; Fault(TOO_LARGE) above the limit."""
    data = _encoder.encode(message)
    if len(data) > MAX_FRAME:
        raise Fault(FaultKind.TOO_LARGE, "Too much for one request to the key broker.")
    return len(data).to_bytes(HEADER, "big") + data


def length_of(header: bytes) -> int:
    """Return how long the message is; ValueError above the limit."""
    length = int.from_bytes(header, "big")
    if length > MAX_FRAME:
        raise ValueError("frame too long")
    return length


def read_call(data: bytes) -> Call:
    """Read a call; ValueError for anything else."""
    try:
        call: Call = _calls.decode(data)
    except (msgspec.MsgspecError, NotImplementedError, RecursionError) as failure:
        raise ValueError("no call of the key broker's") from failure
    return call


def answered(value: object) -> bytes:
    """Return the frame that gives a call's result."""
    return frame(Answer(value=msgspec.Raw(_encoder.encode(value))))


def refused(fault: Fault) -> bytes:
    """Return the frame that says why there is no result."""
    told = Refused(fault.kind, fault.message, fault.code, fault.target, fault.retry_after_s, dict(fault.details))
    return frame(Answer(refused=told))


def read_answer(data: bytes, wanted: Any) -> Any:
    """Return a call's result; raises the Fault that it was refused with, ValueError for anything else."""
    try:
        answer = _answers.decode(data)
        if answer.refused is None:
            return msgspec.msgpack.decode(answer.value, type=wanted, dec_hook=_from_wire)
    except (msgspec.MsgspecError, NotImplementedError, RecursionError) as failure:
        raise ValueError("no answer of the key broker's") from failure
    told = answer.refused
    raise Fault(
        told.kind,
        told.message,
        code=told.code,
        target=told.target,
        retry_after_s=told.retry_after_s,
        details=told.details,
    )
