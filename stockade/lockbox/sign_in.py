"""Whether an operator has signed in lately, and with more than one factor: asked when a request is made, and when it is used.

Source: OpenID Connect Core section 2 (`auth_time`, `amr`), RFC 8176 (`mfa`).
"""

from __future__ import annotations

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.principal import TokenCredential
from stockade.settings import Lockbox

LEEWAY_S = 30.0


def check_sign_in(shown: TokenCredential, now: float, rules: Lockbox) -> None:
    """Raise Fault(PERMISSION_DENIED, code SignInRequired or MfaRequired) unless the sign-in behind a token is fresh enough.

    What counts is when somebody signed in; where the token does not say it, when it was issued. Who says how they sign in has to say `mfa`.
    """
    if not now - rules.sign_in_s <= shown.signed_in_at <= now + LEEWAY_S:
        message = f"The sign-in is older than {rules.sign_in_s:.0f} seconds. Sign in again, and repeat the request."
        raise Fault(FaultKind.PERMISSION_DENIED, message, code="SignInRequired")
    if "mfa" not in (shown.methods or ()) and (rules.require_mfa or shown.methods is not None):
        message = "The sign-in has to be with several factors, and the token does not say so (`amr` has no `mfa`)."
        raise Fault(FaultKind.PERMISSION_DENIED, message, code="MfaRequired")
