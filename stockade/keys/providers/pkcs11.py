"""Keys on a PKCS#11 token: made there, never leaving it.

The handle names the key (CKA_ID) and carries its public part, so that what needs only that is done here. Private and AES keys are
CKA_SENSITIVE and not CKA_EXTRACTABLE.
Source: OASIS PKCS #11 specification 2.40, base and current mechanisms; RFC 8017 section 9.2 for the digest infos.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from stockade.kernel.faults import Fault
from stockade.kernel.secret import Secret
from stockade.keys import algorithms
from stockade.keys.algorithms import PrivateKey, PublicKey
from stockade.keys.material import Curve, Jwk, KeyAnswer, KeyRequest, KeySpec
from stockade.keys.providers._held import Handles, Held, spki
from stockade.keys.providers._token import Token
from stockade.keys.providers.provider import MAX_RANDOM_BYTES, KeyProvider, ProviderKey
from stockade.settings import Provider

if TYPE_CHECKING:
    import pkcs11

DIGEST_INFOS: Final = {
    "RS256": bytes.fromhex("3031300d060960864801650304020105000420"),
    "RS384": bytes.fromhex("3041300d060960864801650304020205000430"),
    "RS512": bytes.fromhex("3051300d060960864801650304020305000440"),
    "RSNULL": b"",
}
_RSA_MEMBERS: Final = {
    "MODULUS": "n", "PUBLIC_EXPONENT": "e", "PRIVATE_EXPONENT": "d", "PRIME_1": "p", "PRIME_2": "q",
    "EXPONENT_1": "dp", "EXPONENT_2": "dq", "COEFFICIENT": "qi",
}  # fmt: skip
_OIDS: Final[dict[Curve, str]] = {
    "P-256": "secp256r1",
    "P-384": "secp384r1",
    "P-521": "secp521r1",
    "P-256K": "secp256k1",
}


class Pkcs11Provider:
    """Keys on the token that the settings name."""

    type: ClassVar[str] = "pkcs11"

    def __init__(self, place: Provider, seal_key: Secret) -> None:
        self._token = Token(place)
        self._lib = self._token.lib
        self._handles = Handles(seal_key, place.name)
        self._opens: set[str] = set()
        """Algorithms that the token has been seen to decrypt with."""

    def supports(self, spec: KeySpec) -> bool:
        return algorithms.supported(spec)

    def create(self, spec: KeySpec, bound_to: str) -> ProviderKey:
        algorithms.check_spec(spec)
        if not algorithms.supported(spec):
            raise self._token.unsupported(f"RSA keys with the exponent {spec.public_exponent}")
        identity = os.urandom(16).hex()
        make = self._make_symmetric if algorithms.family(spec.type) == "oct" else self._make_pair
        return self._handles.keep(self._token.run(lambda session: make(session, spec, identity)), bound_to)

    def take(self, spec: KeySpec, private: Mapping[str, bytes], bound_to: str) -> ProviderKey:
        lib, identity = self._lib, os.urandom(16).hex()
        if algorithms.family(spec.type) == "oct":
            value = algorithms.symmetric_key(spec, private)
            held = Held(identity, spec.type, bits=len(value) * 8)
            template = {"CLASS": lib.ObjectClass.SECRET_KEY, "KEY_TYPE": lib.KeyType.AES, "VALUE": value}
            uses: tuple[str, ...] = ("ENCRYPT", "DECRYPT", "WRAP", "UNWRAP")
        else:
            key = algorithms.private_key(spec, private)
            held = Held(identity, spec.type, spki(key.public_key()))
            template = {"CLASS": lib.ObjectClass.PRIVATE_KEY, **self._numbers(key)}
            uses = ("SIGN", "DECRYPT") if isinstance(key, rsa.RSAPrivateKey) else ("SIGN",)
        template |= dict.fromkeys((*uses, "TOKEN", "PRIVATE", "SENSITIVE"), True) | {
            "EXTRACTABLE": False,
            "ID": bytes.fromhex(identity),
        }
        attributes = {lib.Attribute[name]: value for name, value in template.items()}
        self._token.run(
            lambda session: self._token.accepted(lambda: session.create_object(attributes), "keys from outside")
        )
        return self._handles.keep(held, bound_to)

    def use(self, handle: bytes, public: Jwk, request: KeyRequest, bound_to: str) -> KeyAnswer:
        held = self._handles.open(handle, bound_to)
        held.check(request)
        if held.bits:
            return self._token.run(lambda session: self._symmetric(session, held, request))
        key = held.key
        if request.use in {"sign", "decrypt", "unwrap"}:
            return self._token.run(lambda session: self._private(session, held, key, request))
        # What the public part does is done here, as long as the key is there, and as what comes of it can be opened there.
        self._token.run(lambda session: self._serves(session, held, key, request))
        return algorithms.use_public(key, held.type, request)

    def export(self, handle: bytes, bound_to: str) -> bytes:
        raise self._stays()

    def restore(self, exported: bytes, bound_to: str) -> ProviderKey:
        raise self._stays()

    def destroy(self, handle: bytes, bound_to: str) -> None:
        held = self._handles.open(handle, bound_to)
        self._token.run(lambda session: self._token.remove(session, held.id))

    def random(self, count: int) -> bytes:
        if not 0 < count <= MAX_RANDOM_BYTES:
            raise algorithms.invalid(f"Between 1 and {MAX_RANDOM_BYTES} bytes can be had at once.", "count")
        return self._token.run(lambda session: session.generate_random(count * 8))

    def check(self) -> None:
        self._token.run(lambda session: session.generate_random(64))

    def close(self) -> None:
        self._token.close()

    # Keys that somebody made on the token and gave a label.

    def wrap_named(self, name: str, value: bytes) -> tuple[bytes, str]:
        """Wrap with an AES key (GCM: nonce, ciphertext, tag) or with the public half of an RSA key (OAEP, SHA-1: all modules have it)."""

        def wrap(session: pkcs11.Session) -> bytes:
            key = self._token.labelled(session, name)
            if key.key_type == self._lib.KeyType.RSA:
                request = KeyRequest(use="wrap", algorithm="RSA-OAEP", value=value)
                return algorithms.use_public(self._modulus(key), "RSA", request).value
            iv = os.urandom(algorithms.GCM_IV_BYTES)
            sealed: bytes = self._token.accepted(lambda: key.encrypt(value, **self._gcm(iv, None)), "AES-GCM")
            return iv + sealed

        return self._token.run(wrap), name

    def unwrap_named(self, name: str, wrapped: bytes) -> bytes:
        def unwrap(session: pkcs11.Session) -> bytes:
            key = self._token.labelled(session, name)
            if key.key_type == self._lib.KeyType.RSA:
                how, sealed = self._oaep("RSA-OAEP"), wrapped
            else:
                how, sealed = self._gcm(wrapped[: algorithms.GCM_IV_BYTES], None), wrapped[algorithms.GCM_IV_BYTES :]
            value: bytes = self._token.opened(session, lambda: key.decrypt(sealed, **how), "that")
            return value

        return self._token.run(unwrap)

    def _stays(self) -> Fault:
        return self._token.unsupported("backups: its keys never leave it")

    # On the token.

    def _make_symmetric(self, session: pkcs11.Session, spec: KeySpec, identity: str) -> Held:
        flags, size = self._lib.MechanismFlag, spec.size or 0
        uses = flags.ENCRYPT | flags.DECRYPT | flags.WRAP | flags.UNWRAP
        more = {"id": bytes.fromhex(identity), "store": True, "capabilities": uses, "template": self._hidden()}
        self._token.accepted(lambda: session.generate_key(self._lib.KeyType.AES, size, **more), "such keys")
        return Held(identity, spec.type, bits=size)

    def _make_pair(self, session: pkcs11.Session, spec: KeySpec, identity: str) -> Held:
        lib, flags = self._lib, self._lib.MechanismFlag
        uses = flags.SIGN | flags.VERIFY | (flags(0) if spec.curve else flags.DECRYPT | flags.ENCRYPT)
        # The public half is only asked what it is: it is in the handle, and not kept on the token.
        more = {
            "id": bytes.fromhex(identity),
            "store": True,
            "capabilities": uses,
            "private_template": self._hidden(),
            "public_template": {lib.Attribute.TOKEN: False},
        }
        if spec.curve is None:
            public, _ = self._token.accepted(
                lambda: session.generate_keypair(lib.KeyType.RSA, spec.size, **more), "such keys"
            )
            found: PublicKey = self._modulus(public)
        else:
            curve = {lib.Attribute.EC_PARAMS: lib.util.ec.encode_named_curve_parameters(_OIDS[spec.curve])}
            parameters = session.create_domain_parameters(lib.KeyType.EC, curve, local=True)
            public, _ = self._token.accepted(lambda: parameters.generate_keypair(**more), "such keys")
            loaded = load_der_public_key(lib.util.ec.encode_ec_public_key(public))
            assert isinstance(loaded, ec.EllipticCurvePublicKey)
            found = loaded
        public.destroy()
        return Held(identity, spec.type, spki(found))

    def _private(self, session: pkcs11.Session, held: Held, public: PublicKey, request: KeyRequest) -> KeyAnswer:
        lib, key, value = self._lib, self._token.find(session, held.id), request.value
        if isinstance(public, ec.EllipticCurvePublicKey):
            return KeyAnswer(value=key.sign(value, mechanism=lib.Mechanism.ECDSA))
        how: dict[str, Any]
        if request.use == "sign":
            if request.algorithm.startswith("PS"):
                how = self._pss(request.algorithm[2:], len(value))
            else:
                how, value = {"mechanism": lib.Mechanism.RSA_PKCS}, DIGEST_INFOS[request.algorithm] + value
                if len(value) > public.key_size // 8 - algorithms.PKCS1_BYTES:
                    raise algorithms.invalid("The value is too long for this key.", "value")
            return KeyAnswer(value=self._token.accepted(lambda: key.sign(value, **how), request.algorithm))
        if len(value) != public.key_size // 8:
            raise algorithms.undecryptable()
        how = self._oaep(request.algorithm)
        return KeyAnswer(value=self._token.opened(session, lambda: key.decrypt(value, **how), request.algorithm))

    def _serves(self, session: pkcs11.Session, held: Held, public: PublicKey, request: KeyRequest) -> None:
        """Raise Fault(UNAVAILABLE) where the key is gone, Fault(UNSUPPORTED) for encryption that the token would not undo."""
        self._token.find(session, held.id)
        if request.use == "verify" or request.algorithm in self._opens:
            return
        trial = KeyRequest(use="encrypt", algorithm=request.algorithm, value=b"trial")
        sealed = algorithms.use_public(public, held.type, trial).value
        self._private(session, held, public, KeyRequest(use="decrypt", algorithm=request.algorithm, value=sealed))
        self._opens.add(request.algorithm)

    def _symmetric(self, session: pkcs11.Session, held: Held, request: KeyRequest) -> KeyAnswer:
        lib, key, value = self._lib, self._token.find(session, held.id), request.value
        encrypts = request.use in {"encrypt", "wrap"}
        match mode := algorithms.AES_ALGORITHMS[request.algorithm].mode:
            case "KW":
                return KeyAnswer(value=(self._wrap if encrypts else self._unwrap)(session, key, value))
            case "GCM" if encrypts:
                iv = os.urandom(algorithms.GCM_IV_BYTES)
                how = self._gcm(iv, request.aad)
                sealed = self._token.accepted(lambda: key.encrypt(value, **how), request.algorithm)
                split = len(sealed) - algorithms.GCM_TAG_BYTES
                return KeyAnswer(value=sealed[:split], iv=iv, tag=sealed[split:])
            case "GCM":
                how, value = self._gcm(request.iv or b"", request.aad), value + (request.tag or b"")
            case _:
                mechanism = lib.Mechanism.AES_CBC_PAD if mode == "CBCPAD" else lib.Mechanism.AES_CBC
                how = {"mechanism": mechanism, "mechanism_param": request.iv}
        if encrypts:
            sealed = self._token.accepted(lambda: key.encrypt(value, **how), request.algorithm)
            return KeyAnswer(value=sealed, iv=request.iv)
        return KeyAnswer(value=self._token.opened(session, lambda: key.decrypt(value, **how), request.algorithm))

    def _wrap(self, session: pkcs11.Session, key: Any, value: bytes) -> bytes:
        """Wrap by way of an object of the session: PKCS#11 wraps keys and not data."""
        lib = self._lib
        template = {**self._guest(), lib.Attribute.VALUE: value}
        guest = self._token.accepted(lambda: session.create_object(template), "AES key wrap of data")
        try:
            wrapped: bytes = self._token.accepted(
                lambda: key.wrap_key(guest, mechanism=lib.Mechanism.AES_KEY_WRAP), "AES key wrap"
            )
        finally:
            guest.destroy()
        return wrapped

    def _unwrap(self, session: pkcs11.Session, key: Any, wrapped: bytes) -> bytes:
        lib, template = self._lib, self._guest()
        kinds = template[lib.Attribute.CLASS], template[lib.Attribute.KEY_TYPE]
        more = {"mechanism": lib.Mechanism.AES_KEY_WRAP, "capabilities": 0, "template": template}
        guest = self._token.opened(session, lambda: key.unwrap_key(*kinds, wrapped, **more), "AES key wrap")
        try:
            value: bytes = guest[lib.Attribute.VALUE]
        finally:
            guest.destroy()
        return value

    # In the module's words.

    def _guest(self) -> dict[Any, Any]:
        attribute = self._lib.Attribute
        return {
            attribute.CLASS: self._lib.ObjectClass.SECRET_KEY,
            attribute.KEY_TYPE: self._lib.KeyType.GENERIC_SECRET,
            attribute.TOKEN: False,
            attribute.SENSITIVE: False,
            attribute.EXTRACTABLE: True,
        }

    def _hidden(self) -> dict[Any, Any]:
        attribute = self._lib.Attribute
        return {attribute.SENSITIVE: True, attribute.EXTRACTABLE: False, attribute.PRIVATE: True}

    def _gcm(self, iv: bytes, aad: bytes | None) -> dict[str, Any]:
        parameters = self._lib.GCMParams(iv, aad, algorithms.GCM_TAG_BYTES * 8)
        return {"mechanism": self._lib.Mechanism.AES_GCM, "mechanism_param": parameters}

    def _oaep(self, algorithm: str) -> dict[str, Any]:
        mechanism, mgf = self._lib.Mechanism, self._lib.MGF
        if algorithm == "RSA1_5":
            return {"mechanism": mechanism.RSA_PKCS}
        sha = (mechanism.SHA_1, mgf.SHA1, None) if algorithm == "RSA-OAEP" else (mechanism.SHA256, mgf.SHA256, None)
        return {"mechanism": mechanism.RSA_PKCS_OAEP, "mechanism_param": sha}

    def _pss(self, bits: str, salt: int) -> dict[str, Any]:
        mechanism, name = self._lib.Mechanism, f"SHA{bits}"
        return {
            "mechanism": mechanism.RSA_PKCS_PSS,
            "mechanism_param": (mechanism[name], self._lib.MGF[name], salt),
        }

    def _modulus(self, key: Any) -> rsa.RSAPublicKey:
        n, e = (key[self._lib.Attribute[name]] for name in ("MODULUS", "PUBLIC_EXPONENT"))
        return rsa.RSAPublicNumbers(int.from_bytes(e), int.from_bytes(n)).public_key()

    def _numbers(self, key: PrivateKey) -> dict[str, Any]:
        members = algorithms.private_members(key)
        if isinstance(key, ec.EllipticCurvePrivateKey):
            curve = self._lib.util.ec.encode_named_curve_parameters(key.curve.name)
            return {"KEY_TYPE": self._lib.KeyType.EC, "EC_PARAMS": curve, "VALUE": members["d"]}
        return {"KEY_TYPE": self._lib.KeyType.RSA, **{name: members[member] for name, member in _RSA_MEMBERS.items()}}


class _Type:
    type = Pkcs11Provider.type

    def install(self, place: Provider, seal_key: Secret) -> KeyProvider:
        return Pkcs11Provider(place, seal_key)


PLUGIN = _Type()
