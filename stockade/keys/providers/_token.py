"""A PKCS#11 token as the provider of that name uses it: its session, the login, and where its keys are.

One thread makes the calls, so that whoever asks can stop waiting, and only one: python-pkcs11 initialises a module without locking, and then a
module may be called by one thread at a time (SoftHSM2 crashes otherwise). A session that fails is left, and the call is made once more in a
new one: tokens are pulled out, reset, and logged out by other programs.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from stockade.kernel.faults import Fault, FaultKind
from stockade.keys import algorithms
from stockade.keys.providers._place import Workers, credential, library, unavailable
from stockade.settings import Provider

if TYPE_CHECKING:
    import pkcs11

T = TypeVar("T")

KEPT_FOUND: Final = 64
"""Keys whose place on the token is remembered."""
RENEW_S: Final = 10.0
"""How often at most the sessions are renewed because a key was not found: without its login a token shows none."""


_MODULES: Final[dict[str, threading.RLock]] = {}
"""Held while a module is called, whichever token of it is meant."""


class Token:
    """The token that the settings name: `url` is the module's file, `place` the label, the credential the user's PIN."""

    def __init__(self, place: Provider) -> None:
        self.lib = library("pkcs11", "pkcs11")
        self._place = place
        self._pin = credential(place)
        self._workers = Workers(place.name, place.timeout_s, count=1)
        self._module = _MODULES.setdefault(place.url, threading.RLock())
        self._login: pkcs11.Session | None = None
        self._session: pkcs11.Session | None = None
        self._found: OrderedDict[str, Any] = OrderedDict()
        self._may_renew_at = 0.0

    def run(self, call: Callable[[pkcs11.Session], T]) -> T:
        """Return what a call gives in a session. Fault(UNAVAILABLE) when it does so in no session, or not in time."""

        def attempt() -> T:
            with self._module:
                try:
                    return call(self._opened())
                except self.lib.PKCS11Error:
                    self._leave()
                try:
                    return call(self._opened())
                except self.lib.PKCS11Error as failure:
                    self._leave()
                    raise unavailable(self._place.name) from failure

        return self._workers.run(attempt)

    def close(self) -> None:
        self._workers.close()
        # A call that hangs has the module for as long as it does.
        if self._module.acquire(timeout=self._place.timeout_s):
            self._leave()
            self._module.release()

    def accepted(self, call: Callable[[], T], what: str) -> T:
        """Return what a call gives; Fault(UNSUPPORTED) where the token does not know its mechanism, or not with such parameters."""
        lib = self.lib
        refusals = (
            lib.MechanismInvalid, lib.MechanismParamInvalid, lib.ArgumentsBad, lib.FunctionNotSupported, lib.KeySizeRange,
            lib.DomainParamsInvalid, lib.AttributeValueInvalid, lib.AttributeTypeInvalid, lib.TemplateInconsistent, lib.KeyTypeInconsistent,
        )  # fmt: skip
        try:
            return call()
        except refusals as refusal:
            raise self.unsupported(what) from refusal

    def opened(self, session: pkcs11.Session, call: Callable[[], T], what: str) -> T:
        """Return what a decryption gives; Fault(INVALID), always the same, where it gives nothing and the token is well."""
        lib = self.lib
        undecryptable = (
            lib.EncryptedDataInvalid, lib.EncryptedDataLenRange, lib.DataInvalid, lib.DataLenRange, lib.WrappedKeyInvalid,
            lib.WrappedKeyLenRange, lib.FunctionFailed, lib.GeneralError,
        )  # fmt: skip
        try:
            return self.accepted(call, what)
        except undecryptable:
            # What modules say of a wrong padding is often no more than that something failed: one that is unwell fails at this too.
            session.generate_random(64)
        raise algorithms.undecryptable()

    def unsupported(self, what: str) -> Fault:
        return Fault(FaultKind.UNSUPPORTED, f"The token of the key provider {self._place.name} does not do {what}.")

    def find(self, session: pkcs11.Session, identity: str) -> Any:
        """Return a private or AES key by its CKA_ID in hex, by its place where it was used before. Fault(UNAVAILABLE) for none."""
        key = self._found.get(identity) or self._look(session, {self.lib.Attribute.ID: bytes.fromhex(identity)})
        if key is None:
            raise Fault(FaultKind.UNAVAILABLE, f"The key is not on the token of the key provider {self._place.name}.")
        self._found[identity] = key
        if len(self._found) > KEPT_FOUND:
            self._found.popitem(last=False)
        return key

    def labelled(self, session: pkcs11.Session, label: str) -> Any:
        """Return the private or AES key of that label; Fault(UNAVAILABLE) for none."""
        key = self._look(session, {self.lib.Attribute.LABEL: label})
        if key is None:
            message = f"There is no key '{label}' on the token of the key provider {self._place.name}."
            raise Fault(FaultKind.UNAVAILABLE, message)
        return key

    def remove(self, session: pkcs11.Session, identity: str) -> None:
        """Destroy a key, if it is there."""
        key = self._look(session, {self.lib.Attribute.ID: bytes.fromhex(identity)})
        # A place that is free again may become another key's.
        self._found.clear()
        if key is not None:
            key.destroy()

    def _look(self, session: pkcs11.Session, attributes: dict[Any, Any]) -> Any:
        lib = self.lib
        for kind in (lib.ObjectClass.PRIVATE_KEY, lib.ObjectClass.SECRET_KEY):
            # All of them, since a search that is not ended is in the session's way.
            found = list(session.get_objects({lib.Attribute.CLASS: kind, **attributes}))
            if found:
                return found[0]
        now = time.monotonic()
        if now < self._may_renew_at:
            return None
        self._may_renew_at = now + RENEW_S
        # Perhaps the login was lost, without which a token shows no such keys: looked for once more after a new one.
        raise lib.UserNotLoggedIn

    def _opened(self) -> pkcs11.Session:
        if self._session is None:
            token = self.lib.lib(self._place.url).get_token(token_label=self._place.place)
            if self._login is None:
                self._login = self._log_in(token)
            self._session = token.open(rw=True)
        return self._session

    def _log_in(self, token: pkcs11.Token) -> pkcs11.Session:
        """Return a session that is there for its login: PKCS#11 logs in all sessions of a program at once, and out with the one that did."""
        lib = self.lib
        try:
            return token.open(rw=True, user_pin=self._pin.reveal_text() if self._pin is not None else None)
        except lib.UserAlreadyLoggedIn:
            # By another provider of this process, on the same token.
            return token.open(rw=True)
        except (lib.PinIncorrect, lib.PinLocked, lib.PinInvalid, lib.PinLenRange) as refusal:
            # Not tried again with this call: a few wrong PINs lock a token.
            message = f"The token of the key provider {self._place.name} does not take its PIN."
            raise Fault(FaultKind.UNAVAILABLE, message) from refusal

    def _leave(self) -> None:
        """Close what is open, as far as that still can be done."""
        for session in (self._session, self._login):
            if session is not None:
                with contextlib.suppress(self.lib.PKCS11Error):
                    session.close()
        self._session = self._login = None
        self._found.clear()
