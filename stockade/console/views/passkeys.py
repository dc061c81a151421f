"""Registering a passkey, to be put into an account's Lockbox statement. Nothing is kept of it here but in the session.

Source: W3C Web Authentication Level 3, sections 7.1 (registration); no attestation is asked for, since a statement says which key it trusts
and not whose make it is of.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final

import msgspec
from webauthn import verify_registration_response
from webauthn.helpers.cose import COSEAlgorithmIdentifier
from webauthn.helpers.exceptions import WebAuthnException

from stockade.console.pages import Goto, Page
from stockade.console.views.statements import account_of, free_name, page_of
from stockade.console.visit import ROOT, View, Visit
from stockade.kernel.faults import Fault, FaultKind
from stockade.lockbox.statement import Approver, Passkey
from stockade.lockbox.strict import base64url

ALGORITHMS: Final = (
    COSEAlgorithmIdentifier.ECDSA_SHA_256,
    COSEAlgorithmIdentifier.EDDSA,
    COSEAlgorithmIdentifier.RSASSA_PKCS1_v1_5_SHA_256,
)
MAX_CREDENTIAL: Final = 32 * 1024


def _begin(visit: Visit, problem: str = "", status: int = 200) -> Page:
    account = account_of(visit)
    statement = account.statement
    known = [one.passkey for one in statement.approvers if one.passkey is not None] if statement is not None else []
    return _page(visit, page_of(account.id), account.name, known, problem, status)


def _register(visit: Visit) -> Page | Goto:
    account = account_of(visit)
    try:
        visit.session.passkey = registered(visit, visit.form.get("credential", ""))
    except Fault as fault:
        return _begin(visit, fault.message, 400)
    visit.session.tell(
        "The passkey is registered. It counts once it stands in the statement: draft one below, and sign it."
    )
    return Goto(f"{page_of(account.id)}#draft")


def _begin_alone(visit: Visit, problem: str = "", status: int = 200) -> Page:
    return _page(visit, ROOT, "", [], problem, status)


def _register_alone(visit: Visit) -> Page | Goto:
    """Register for somebody who may not see accounts: approvers by role alone. They give their key to whoever drafts the statement."""
    try:
        visit.session.passkey = registered(visit, visit.form.get("credential", ""))
    except Fault as fault:
        return _begin_alone(visit, fault.message, 400)
    return Goto(f"{ROOT}/passkey/mine")


def _mine(visit: Visit) -> Page | Goto:
    if visit.session.passkey is None:
        return Goto(f"{ROOT}/passkey")
    mine = Approver(free_name(visit.session.name, None), visit.session.object_id, passkey=visit.session.passkey)
    return Page("passkey_mine.html", {"key": mine, "text": msgspec.json.encode(mine).decode()})


def _page(visit: Visit, page: str, name: str, known: Iterable[Passkey], problem: str, status: int) -> Page:
    visit.session.challenge = os.urandom(32)
    values = {
        "name": name,
        "page": page,
        "challenge": base64url(visit.session.challenge),
        "relying_party": visit.address.relying_party,
        # A handle of its own each time: an authenticator keeps one passkey per handle, and a new one must not take the place of one that
        # stands in a statement.
        "user": base64url(os.urandom(16)),
        "algorithms": ",".join(str(int(one)) for one in ALGORITHMS),
        "known": ",".join(one.credential_id for one in known if one.rp_id == visit.address.relying_party),
        "problem": problem,
    }
    return Page("passkey.html", values, status, script=True)


def registered(visit: Visit, sent: str) -> Passkey:
    """Return the passkey that an authenticator has made for this session's challenge, which is used up; Fault(INVALID)."""
    challenge, visit.session.challenge = visit.session.challenge, b""
    if not sent or len(sent) > MAX_CREDENTIAL:
        message = (
            "No passkey came with the form. It takes a browser that runs this page's script, and an authenticator."
        )
        raise Fault(FaultKind.INVALID, message)
    if not challenge:
        raise Fault(FaultKind.INVALID, "That registration was begun in another window; begin again.")
    try:
        found = verify_registration_response(
            credential=sent,
            expected_challenge=challenge,
            expected_rp_id=visit.address.relying_party,
            expected_origin=visit.address.origin,
            require_user_verification=True,
            supported_pub_key_algs=list(ALGORITHMS),
        )
    except (WebAuthnException, ValueError, KeyError, TypeError) as failure:
        raise Fault(FaultKind.INVALID, "The authenticator's answer does not verify; try again.") from failure
    return Passkey(
        credential_id=base64url(found.credential_id),
        public_key=base64url(found.credential_public_key),
        rp_id=visit.address.relying_party,
        origin=visit.address.origin,
    )


_PATH: Final = "/subscriptions/{subscription}/accounts/{group}/{account}/passkey"
VIEWS: Final = (
    View("GET", _PATH, _begin),
    View("POST", _PATH, _register),
    View("GET", "/passkey", _begin_alone),
    View("POST", "/passkey", _register_alone),
    View("GET", "/passkey/mine", _mine),
)
