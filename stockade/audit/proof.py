"""One record with the proof that it stands in the log: what a customer is given, and verifies with the public key alone.

JSON: the record as it is logged, its index, the path through the tree (RFC 9162 section 2.1.3), and the signed head that the path leads to.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec

from stockade.audit import tree
from stockade.audit.checkpoint import Head, HeadKey, read_note, verify
from stockade.audit.heads import Heads
from stockade.audit.ledger import LogReader
from stockade.kernel.faults import Fault, FaultKind

MAX_BYTES: Final = 4 * 1024 * 1024

_Path = Annotated[tuple[str, ...], msgspec.Meta(max_length=tree.MAX_PATH)]


class Proof(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The bundle, as it is written."""

    version: Literal[1] = msgspec.field(name="stockadeAuditProof")
    index: Annotated[int, msgspec.Meta(ge=0)]
    record: str
    path: _Path
    """Base64."""
    checkpoint: str


@dataclass(frozen=True, slots=True)
class Proven:
    """What a proof has shown: this line stands at this index of the log whose head that is."""

    head: Head
    index: int
    line: bytes


def prove(log: LogReader, heads: Heads, index: int) -> Proof:
    """Prove a record against the newest head.

    Fault(NOT_FOUND) for one that is not there, or not any more; Fault(UNAVAILABLE) while no head has it yet.
    """
    newest = heads.newest()
    if not 0 <= index < log.size:
        raise Fault(FaultKind.NOT_FOUND, f"The audit log {log.name} has no record {index}.")
    if newest is None or newest.head.size <= index:
        message = "The record is in the log, but under no signed tree head yet; the next one is due within seconds."
        raise Fault(FaultKind.UNAVAILABLE, message, retry_after_s=5)
    found = next(log.records(index, index + 1), None)
    if found is None:
        raise Fault(FaultKind.NOT_FOUND, f"Record {index} of the audit log {log.name} was removed by retention.")
    path = log.inclusion(index, newest.head.size)
    shown = tuple(b64encode(value).decode() for value in path)
    return Proof(1, index, found[1].decode(), shown, newest.note.decode())


def encoded(proof: Proof) -> bytes:
    """Return the bundle as it is handed out."""
    return msgspec.json.format(msgspec.json.encode(proof), indent=2) + b"\n"


def read(data: bytes) -> Proof:
    """Read a bundle; Fault(INVALID) for anything else."""
    if len(data) > MAX_BYTES:
        raise Fault(FaultKind.INVALID, "A proof is not as long as that.")
    try:
        return msgspec.json.decode(data, type=Proof)
    except msgspec.MsgspecError as failure:
        raise Fault(FaultKind.INVALID, f"That is no proof of a record: {failure}") from failure


def verify_proof(proof: Proof, keys: Iterable[HeadKey]) -> Proven:
    """Return what the bundle proves; Fault(INVALID) when it does not."""
    head, line = verify(read_note(proof.checkpoint.encode()), keys), proof.record.encode()
    try:
        path = [b64decode(value, validate=True) for value in proof.path]
    except ValueError as failure:
        raise Fault(FaultKind.INVALID, "The path is not base64.") from failure
    if not tree.includes(tree.leaf_hash(line), proof.index, head.size, path, head.root):
        message = f"The record is not number {proof.index} of the log {head.log} as it was signed: it, or the proof, was changed."
        raise Fault(FaultKind.INVALID, message)
    return Proven(head, proof.index, line)
