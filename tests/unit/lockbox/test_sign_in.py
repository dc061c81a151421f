"""How old a sign-in may be, and what it has to say of its factors."""

from __future__ import annotations

from typing import Any

import pytest

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.principal import TokenCredential
from stockade.lockbox.sign_in import check_sign_in
from stockade.settings import Lockbox

NOW = 1_800_000_000.0


def check(rules: Lockbox = Lockbox(), **claims: Any) -> str:  # noqa: B008 - frozen
    shown = TokenCredential("t", "o", None, "a", "i", NOW + 3600, **{"signed_in_at": NOW, **claims})
    try:
        check_sign_in(shown, NOW, rules)
    except Fault as fault:
        return f"{fault.code}" if fault.kind is FaultKind.PERMISSION_DENIED else fault.message
    return ""


@pytest.mark.parametrize(
    ("claims", "wanted"),
    [
        ({}, ""),
        ({"signed_in_at": NOW - 900}, ""),
        ({"signed_in_at": NOW + 30}, ""),
        ({"signed_in_at": NOW - 901}, "SignInRequired"),
        ({"signed_in_at": NOW + 31}, "SignInRequired"),
        ({"signed_in_at": 0.0}, "SignInRequired"),
        ({"signed_in_at": NOW - 901.5}, "SignInRequired"),
        ({"methods": ("pwd", "mfa")}, ""),
        ({"methods": ("pwd",)}, "MfaRequired"),
        ({"methods": ()}, "MfaRequired"),
    ],
    ids=range(10),
)
def test_a_sign_in_is_recent_and_says_how(claims: dict[str, Any], wanted: str) -> None:
    assert check(**claims) == wanted


def test_settings_make_it_narrower() -> None:
    assert check(Lockbox(require_mfa=True)) == "MfaRequired"
    assert not check(Lockbox(require_mfa=True), methods=("mfa",))
    assert check(Lockbox(sign_in_s=60.0), signed_in_at=NOW - 61) == "SignInRequired"
