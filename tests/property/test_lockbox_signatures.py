"""Whatever byte of what was signed, or of a signature, is changed, taken out or put in: it is signed by nobody any more."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from stockade.kernel.faults import Fault
from stockade.lockbox import approval, statement
from stockade.lockbox.signature import Signature, Signed, verified
from tests.factories.lockbox import Authenticator, Signer, a_statement, an_approval, signed

ALICE, CAROL = Signer(), Authenticator()
APPROVERS = (ALICE.approver, CAROL.approver)
WHOLE = (signed(an_approval(), ALICE, CAROL), signed(a_statement(*APPROVERS), ALICE, CAROL))
ENCODED = [msgspec.json.encode(one) for one in WHOLE]


@st.composite
def changed(draw: st.DrawFn, original: bytes) -> bytes:
    """Return the bytes with a few of them another, fewer or more."""
    place = draw(st.integers(0, len(original) - 1))
    end = draw(st.integers(place, min(len(original), place + 4)))
    found = original[:place] + draw(st.binary(max_size=4)) + original[end:]
    return found if found != original else original + b" "


def holds(told: Signed) -> bool:
    try:
        verified(told, APPROVERS)
    except Fault:
        return False
    return True


def test_they_hold_as_they_are() -> None:
    assert all(holds(one) for one in WHOLE)


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from(range(len(WHOLE))))
def test_a_changed_payload_is_signed_by_nobody(data: st.DataObject, which: int) -> None:
    whole = WHOLE[which]
    assert not holds(Signed(data.draw(changed(whole.payload)), whole.signatures))


@settings(max_examples=250, deadline=None)
@given(st.data(), st.sampled_from(range(len(WHOLE))))
def test_a_changed_signature_signs_nothing(data: st.DataObject, which: int) -> None:
    """What does not decode is no signature; what does and is something else does not hold."""
    try:
        told = msgspec.json.decode(data.draw(changed(ENCODED[which])), type=Signed, strict=True)
    except (msgspec.MsgspecError, ValueError):
        return
    if told != WHOLE[which]:
        assert not holds(told)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.text(max_size=200))
def test_anything_else_is_refused_and_nothing_breaks(payload: bytes, text: str) -> None:
    assert not holds(Signed(payload, (Signature("alice", jws=text),)))
    for read in (approval.read, statement.read):
        try:
            read(payload)
        except Fault:
            continue
        raise AssertionError(payload)
