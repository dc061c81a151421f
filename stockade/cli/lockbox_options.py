"""What the options of `stockade lockbox protect` say, as parts of a statement: who approves, and whose calls are the customer's."""

from __future__ import annotations

import json
import re
from hashlib import sha256
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec
import typer

from stockade.cli.arm import Arm
from stockade.cli.lockbox_signing import Key, key_of, thumbprint
from stockade.lockbox.public_keys import public_jwk
from stockade.lockbox.statement import Approver, Callers, PinnedIssuer

MAX_FILE: Final = 256 * 1024


def approver(arm: Arm, text: str) -> tuple[Approver, Key]:
    """Return an approver of `[PRINCIPAL=]KEY`, and the key."""
    who, separator, source = text.rpartition("=")
    if not separator:
        who, source = "", text
    key = key_of(source, arm)
    reference = who or arm.administrator.client_id
    found = arm.call("GET", f"{arm.subscription}/providers/Stockade.Directory/principals/{quote(reference, safe='')}")
    name = re.sub(r"[^a-z0-9._-]+", "-", str(found["displayName"]).lower()).strip("-._") or "approver"
    return Approver(id=name[:60], principal=str(found["objectId"]).lower(), jwk=dict(key.jwk)), key


def numbered(given: list[Approver]) -> tuple[Approver, ...]:
    """Return approvers whose ids differ: a second key of the same person gets a number."""
    seen: dict[str, int] = {}
    made = []
    for one in given:
        seen[one.id] = number = seen.get(one.id, 0) + 1
        made.append(one if number == 1 else msgspec.structs.replace(one, id=f"{one.id}-{number}"))
    return tuple(made)


def callers(given: list[str], pinned: PinnedIssuer, *, jobs: bool) -> Callers:
    """Return what `--callers` says. pinned: what it says of every issuer."""
    platform, issuers, keys = False, [], []
    for one in given:
        if one.lower() == "platform":
            platform = True
        elif one.lower().startswith("issuer:"):
            issuers.append(_issuer(one[len("issuer:") :], pinned))
        elif one.lower().startswith("keys="):
            keys += _digests(one[len("keys=") :])
        else:
            raise typer.BadParameter(f"'{one}' is none of: platform, issuer:URL=JWKS_FILE, keys=FILE.")
    return Callers(platform=platform, issuers=tuple(issuers), keys=tuple(keys), jobs=jobs)


def _issuer(text: str, pinned: PinnedIssuer) -> PinnedIssuer:
    issuer, separator, file = text.rpartition("=")
    if not separator or not issuer or not file:
        raise typer.BadParameter(
            "An issuer is issuer:URL=JWKS_FILE: its exact `iss`, and a file with the keys it signs with."
        )
    try:
        held = json.loads(Path(file).expanduser().read_bytes()[:MAX_FILE])
        found = held["keys"] if isinstance(held, dict) and "keys" in held else [held]
        return msgspec.structs.replace(pinned, issuer=issuer, keys=tuple(thumbprint(public_jwk(one)) for one in found))
    except (OSError, ValueError, KeyError, TypeError) as failure:
        raise typer.BadParameter(f"{file} holds no keys (JWKS) of an issuer.") from failure


def _digests(file: str) -> list[str]:
    """Return the SHA-256 of the keys in a file, one a line, as their holder has them: the platform's word is not taken for it."""
    try:
        lines = Path(file).expanduser().read_bytes()[:MAX_FILE].split()
    except OSError as failure:
        raise typer.BadParameter(f"{file} cannot be read.") from failure
    if not lines:
        raise typer.BadParameter(
            f"{file} holds no subscription keys: `stockade keys regenerate --forget` prints them, one a line."
        )
    return [sha256(line).hexdigest() for line in lines]
