"""Key Vault's algorithms in terms of `cryptography`: which key does what, and how keys look as JWKs. Every provider asks here.

Sources: contracts, control-plane section 6.4; RFC 7517 and 7518 (JWK, the algorithms' meaning: PSS with a salt as long as the digest, EC
signatures as r and s of fixed length); RFC 3394 (AES key wrap); RFC 8017 (RSA).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final, Never, TypeAlias

import msgspec
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import (
    NoDigestInfo,
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap
from cryptography.hazmat.primitives.padding import PKCS7

from stockade.kernel.faults import Fault, FaultKind
from stockade.keys.material import CURVES, RSA_SIZES, Curve, Jwk, KeyAnswer, KeyRequest, KeySpec, KeyType

PrivateKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
PublicKey: TypeAlias = rsa.RSAPublicKey | ec.EllipticCurvePublicKey

OCT_SIZES: Final = (128, 192, 256)
GCM_IV_BYTES: Final = 12
GCM_TAG_BYTES: Final = 16
BLOCK_BYTES: Final = 16
RSA_EXPONENT: Final = 65537
MAX_EXPONENT_BYTES: Final = 4
PKCS1_BYTES: Final = 11
"""What the padding of a PKCS #1 v1.5 signature takes at least."""

EC_CURVES: Final[dict[Curve, ec.EllipticCurve]] = {
    "P-256": ec.SECP256R1(),
    "P-384": ec.SECP384R1(),
    "P-521": ec.SECP521R1(),
    "P-256K": ec.SECP256K1(),
}
_CURVE_NAMES: Final[dict[str, Curve]] = {
    "secp256r1": "P-256",
    "secp384r1": "P-384",
    "secp521r1": "P-521",
    "secp256k1": "P-256K",
}

DIGESTS: Final[dict[str, hashes.HashAlgorithm]] = {
    "256": hashes.SHA256(),
    "384": hashes.SHA384(),
    "512": hashes.SHA512(),
    "256K": hashes.SHA256(),
}
"""By the last part of a signature algorithm's name."""


class AesAlgorithm(msgspec.Struct, frozen=True):
    """`A256CBCPAD` is 256 bits in mode `CBCPAD`. Modes: GCM, CBC, CBCPAD, KW."""

    bits: int
    mode: str


AES_ALGORITHMS: Final = {
    f"A{bits}{mode}": AesAlgorithm(bits, mode) for bits in OCT_SIZES for mode in ("GCM", "CBC", "CBCPAD", "KW")
}
RSA_PADDINGS: Final[dict[str, padding.AsymmetricPadding]] = {
    "RSA1_5": padding.PKCS1v15(),
    "RSA-OAEP": padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None),  # noqa: S303 (the wire's: OAEP does not need a collision-free hash)
    "RSA-OAEP-256": padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None),
}


def family(kty: str) -> str:
    """Return `RSA`, `EC` or `oct`: where a key is held makes no difference to what it does."""
    return kty.removesuffix("-HSM")


def invalid(message: str, target: str | None = None) -> Fault:
    """Return what a caller is told who asked wrongly. target: the field, in Key Vault's words."""
    return Fault(FaultKind.INVALID, message, target=target)


def undecryptable() -> Fault:
    """Return the one fault of every failed decryption, whatever failed: a padding, a tag, a length."""
    return invalid("The value cannot be decrypted with this key and algorithm.", "value")


def wrong_algorithm(algorithm: str, kty: str, use: str) -> Never:
    """Refuse a name that does not exist, or not for this key and use. Of what a caller sent, it quotes no more than a name's length."""
    raise invalid(f"The algorithm '{algorithm[:32]}' is not one that a key of type {kty} can {use} with.", "alg")


# What keys there are.


def check_spec(spec: KeySpec) -> None:
    """Raise Fault(UNSUPPORTED) for a kind of key that Key Vault does not have."""
    right = {
        "RSA": spec.size in RSA_SIZES and spec.curve is None,
        "EC": spec.curve in CURVES and spec.size is None,
        "oct": spec.size in OCT_SIZES and spec.curve is None,
    }[family(spec.type)]
    if not right:
        what = f"curve {spec.curve}" if family(spec.type) == "EC" else f"{spec.size} bits"
        raise Fault(FaultKind.UNSUPPORTED, f"There are no keys of type {spec.type} with {what}.", target="kty")


def supported(spec: KeySpec) -> bool:
    """Say whether such a key can be made."""
    try:
        check_spec(spec)
    except Fault:
        return False
    return family(spec.type) != "RSA" or spec.public_exponent == RSA_EXPONENT


def make_private(spec: KeySpec) -> PrivateKey:
    """Generate an RSA or EC key; Fault(UNSUPPORTED) for one that cannot be."""
    check_spec(spec)
    if spec.curve is not None:
        return ec.generate_private_key(EC_CURVES[spec.curve])
    assert spec.size is not None
    if spec.public_exponent != RSA_EXPONENT:
        raise Fault(
            FaultKind.UNSUPPORTED, f"RSA keys are made with the exponent {RSA_EXPONENT} only.", target="public_exponent"
        )
    return rsa.generate_private_key(RSA_EXPONENT, spec.size)


# JWKs.


def jwk_of(kty: KeyType, key: PublicKey) -> Jwk:
    """Return a public key as a JWK, its coordinates in full length."""
    if isinstance(key, rsa.RSAPublicKey):
        rsa_numbers = key.public_numbers()
        return Jwk(kty=kty, n=_octets(rsa_numbers.n), e=_octets(rsa_numbers.e))
    numbers = key.public_numbers()
    name = _CURVE_NAMES[key.curve.name]
    size = CURVES[name][1]
    return Jwk(kty=kty, crv=name, x=numbers.x.to_bytes(size), y=numbers.y.to_bytes(size))


def public_key(jwk: Jwk) -> PublicKey:
    """Return the key that a JWK describes; Fault(INVALID) when it describes none (a point off its curve, an even exponent)."""
    try:
        if family(jwk.kty) == "RSA" and jwk.n and jwk.e:
            return rsa.RSAPublicNumbers(int.from_bytes(jwk.e), int.from_bytes(jwk.n)).public_key()
        if family(jwk.kty) == "EC" and jwk.crv and jwk.x and jwk.y:
            x, y = int.from_bytes(jwk.x), int.from_bytes(jwk.y)
            return ec.EllipticCurvePublicNumbers(x, y, EC_CURVES[jwk.crv]).public_key()
    except ValueError as failure:
        raise invalid("The public key is not a valid one.", "key") from failure
    raise invalid("The public key lacks a member.", "key")


def private_key(spec: KeySpec, private: Mapping[str, bytes]) -> PrivateKey:
    """Return the key that a private JWK's members describe, checked: its numbers fit together, and it is what `spec` says.

    RSA wants n, e and d; p, q, dp, dq, qi all or none. EC wants d; x and y, where given, have to be its point. Fault(INVALID) otherwise,
    which says nothing of the key.
    """
    check_spec(spec)
    try:
        key = _ec_private(spec, private) if spec.curve is not None else _rsa_private(private)
    except (ValueError, KeyError, TypeError) as failure:
        # Without the failure as its cause: a library's message may quote a number.
        raise invalid("The key's members are not those of a valid private key.", "key") from (
            failure if isinstance(failure, KeyError) else None
        )
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size != spec.size:
        raise invalid(f"The key has {key.key_size} bits and not {spec.size}.", "key")
    return key


def private_members(key: PrivateKey) -> dict[str, bytes]:
    """Return all members of a private JWK, its public ones too."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        size = (key.key_size + 7) // 8
        numbers, point = key.private_numbers(), key.public_key().public_numbers()
        return {
            name: number.to_bytes(size)
            for name, number in (("d", numbers.private_value), ("x", point.x), ("y", point.y))
        }
    rsa_numbers = key.private_numbers()
    public = rsa_numbers.public_numbers
    members = {
        "n": public.n, "e": public.e, "d": rsa_numbers.d, "p": rsa_numbers.p, "q": rsa_numbers.q,
        "dp": rsa_numbers.dmp1, "dq": rsa_numbers.dmq1, "qi": rsa_numbers.iqmp,
    }  # fmt: skip
    return {name: _octets(number) for name, number in members.items()}


def symmetric_key(spec: KeySpec, private: Mapping[str, bytes]) -> bytes:
    """Return the key of a private JWK of type oct; Fault(INVALID) when it has another length than `spec` says."""
    check_spec(spec)
    key = private.get("k", b"")
    if len(key) * 8 != spec.size:
        raise invalid(f"The key has {len(key) * 8} bits and not {spec.size}.", "key")
    return key


def _rsa_private(private: Mapping[str, bytes]) -> rsa.RSAPrivateKey:
    whole = {name: int.from_bytes(private[name]) for name in ("n", "e", "d")}
    if len(private["n"].lstrip(b"\0")) * 8 > max(RSA_SIZES) or len(private["e"].lstrip(b"\0")) > MAX_EXPONENT_BYTES:
        # Before anything is worked out: the work grows with the numbers.
        raise ValueError("too large")
    given = [name for name in ("p", "q", "dp", "dq", "qi") if name in private]
    if given and len(given) < 5:
        raise ValueError("some of the primes' members are missing")
    if given:
        p, q, dp, dq, qi = (int.from_bytes(private[name]) for name in given)
    else:
        p, q = rsa.rsa_recover_prime_factors(whole["n"], whole["e"], whole["d"])
        dp, dq, qi = rsa.rsa_crt_dmp1(whole["d"], p), rsa.rsa_crt_dmq1(whole["d"], q), rsa.rsa_crt_iqmp(p, q)
    public = rsa.RSAPublicNumbers(whole["e"], whole["n"])
    return rsa.RSAPrivateNumbers(p, q, whole["d"], dp, dq, qi, public).private_key()


def _ec_private(spec: KeySpec, private: Mapping[str, bytes]) -> ec.EllipticCurvePrivateKey:
    assert spec.curve is not None
    key = ec.derive_private_key(int.from_bytes(private["d"]), EC_CURVES[spec.curve])
    numbers = key.public_key().public_numbers()
    if (int.from_bytes(private.get("x", b"")), int.from_bytes(private.get("y", b""))) not in {
        (0, 0),
        (numbers.x, numbers.y),
    }:
        raise ValueError("the point is another key's")
    return key


def _octets(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8)


# What is done with them.


def digest_of(request: KeyRequest) -> hashes.HashAlgorithm:
    """Return the digest of a signature algorithm, having seen that the value has its length; Fault(INVALID) where it has not."""
    digest = DIGESTS[request.algorithm[2:]]
    if len(request.value) != digest.digest_size:
        raise invalid(
            f"A digest for {request.algorithm} has {digest.digest_size} bytes; this one has {len(request.value)}.",
            "value",
        )
    return digest


def check_request(public: Jwk, request: KeyRequest) -> None:
    """Raise Fault(INVALID) unless a key of that kind does that, with a value of that length: what can be said without the key itself."""
    kty, algorithm, use = public.kty, request.algorithm, request.use
    signs = use in {"sign", "verify"}
    match family(kty):
        case "RSA" if signs and algorithm in _RSA_SIGNATURES:
            if algorithm != "RSNULL":
                digest_of(request)
            elif not request.value:
                raise invalid("There is nothing to sign or verify.", "value")
        case "EC" if signs and public.crv is not None and algorithm == CURVES[public.crv][0]:
            digest_of(request)
        case "RSA" if not signs and algorithm in RSA_PADDINGS:
            pass
        case "oct" if not signs and algorithm in AES_ALGORITHMS:
            if (AES_ALGORITHMS[algorithm].mode == "KW") != (use in {"wrap", "unwrap"}):
                wrong_algorithm(algorithm, kty, use)
        case _:
            wrong_algorithm(algorithm, kty, use)


_RSA_SIGNATURES: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "RSNULL"})


def use_private(key: PrivateKey, kty: KeyType, request: KeyRequest) -> KeyAnswer:
    """Do what is asked with an RSA or EC key."""
    if request.use not in {"sign", "decrypt", "unwrap"}:
        return use_public(key.public_key(), kty, request)
    check_request(_kind(kty, key), request)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        signature = key.sign(request.value, ec.ECDSA(Prehashed(digest_of(request))))
        return KeyAnswer(value=raw_signature(signature, key.curve))
    if request.use == "sign":
        try:
            return KeyAnswer(value=key.sign(request.value, *_signature(request)))
        except ValueError as failure:
            raise invalid("The value is too long for this key.", "value") from failure
    try:
        return KeyAnswer(value=key.decrypt(request.value, RSA_PADDINGS[request.algorithm]))
    except ValueError:
        raise undecryptable() from None


def use_public(key: PublicKey, kty: KeyType, request: KeyRequest) -> KeyAnswer:
    """Encrypt, wrap or verify."""
    check_request(_kind(kty, key), request)
    if request.use == "verify":
        return KeyAnswer(valid=_verifies(key, request))
    if not isinstance(key, rsa.RSAPublicKey) or request.use not in {"encrypt", "wrap"}:
        wrong_algorithm(request.algorithm, kty, request.use)
    try:
        return KeyAnswer(value=key.encrypt(request.value, RSA_PADDINGS[request.algorithm]))
    except ValueError as failure:
        raise invalid("The value is too long for this key and algorithm.", "value") from failure


def check_symmetric(kty: KeyType, bits: int, request: KeyRequest) -> AesAlgorithm:
    """Return what is asked of an AES key, its parameters checked.

    Fault(INVALID) for an algorithm of another key, and for an initialization vector, tag or value that has not the length it has to have.
    """
    check_request(Jwk(kty=kty), request)
    algorithm = AES_ALGORITHMS[request.algorithm]
    if algorithm.bits != bits:
        raise invalid(f"{request.algorithm} wants a key of {algorithm.bits} bits; this one has {bits}.", "alg")
    if request.aad is not None and algorithm.mode != "GCM":
        raise invalid(f"{request.algorithm} takes no associated data.", "aad")
    encrypts, length = request.use in {"encrypt", "wrap"}, len(request.value)
    if algorithm.mode == "GCM":
        _check_gcm(request, encrypts=encrypts)
    elif algorithm.mode == "KW":
        if encrypts and (length < 16 or length % 8):
            raise invalid("AES key wrap takes 16 bytes or more, a multiple of 8.", "value")
        if not encrypts and (length < 24 or length % 8):
            raise undecryptable()
    else:
        if len(request.iv or b"") != BLOCK_BYTES:
            raise invalid(f"The initialization vector of AES-CBC has {BLOCK_BYTES} bytes.", "iv")
        if encrypts and algorithm.mode == "CBC" and length % BLOCK_BYTES:
            raise invalid(f"AES-CBC without padding encrypts multiples of {BLOCK_BYTES} bytes.", "value")
        if not encrypts and (length % BLOCK_BYTES or not length):
            raise undecryptable()
    return algorithm


def _check_gcm(request: KeyRequest, *, encrypts: bool) -> None:
    if encrypts and request.iv is not None:
        # One nonce used twice gives the key's authentication away; only who has the key can see to that.
        raise invalid("The initialization vector of AES-GCM is not chosen by the caller.", "iv")
    if not encrypts and len(request.iv or b"") != GCM_IV_BYTES:
        raise invalid(f"The initialization vector of AES-GCM has {GCM_IV_BYTES} bytes.", "iv")
    if not encrypts and len(request.tag or b"") != GCM_TAG_BYTES:
        raise invalid(f"The authentication tag has {GCM_TAG_BYTES} bytes.", "tag")


def use_symmetric(key: bytes | bytearray, kty: KeyType, request: KeyRequest) -> KeyAnswer:
    """Do what is asked with an AES key."""
    algorithm = check_symmetric(kty, len(key) * 8, request)
    encrypts = request.use in {"encrypt", "wrap"}
    match algorithm.mode:
        case "GCM":
            return _gcm_encrypt(key, request) if encrypts else _gcm_decrypt(key, request)
        case "KW":
            return KeyAnswer(value=aes_key_wrap(bytes(key), request.value) if encrypts else _unwrap(key, request.value))
        case mode:
            value = _cbc(key, request, encrypts=encrypts, padded=mode == "CBCPAD")
            return KeyAnswer(value=value, iv=request.iv if encrypts else None)


def _kind(kty: KeyType, key: PrivateKey | PublicKey) -> Jwk:
    """Return as much of a JWK as a request is judged by."""
    crv = None if isinstance(key, rsa.RSAPrivateKey | rsa.RSAPublicKey) else _CURVE_NAMES[key.curve.name]
    return Jwk(kty=kty, crv=crv)


def _signature(request: KeyRequest) -> tuple[padding.AsymmetricPadding, Prehashed | NoDigestInfo]:
    if request.algorithm == "RSNULL":
        return padding.PKCS1v15(), NoDigestInfo()
    digest = digest_of(request)
    if request.algorithm.startswith("PS"):
        return padding.PSS(padding.MGF1(digest), digest.digest_size), Prehashed(digest)
    return padding.PKCS1v15(), Prehashed(digest)


def _verifies(key: PublicKey, request: KeyRequest) -> bool:
    signature = request.signature or b""
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, request.value, *_signature(request))  # type: ignore[arg-type]  # NoDigestInfo: typed for sign alone
        else:
            key.verify(der_signature(signature, key.curve), request.value, ec.ECDSA(Prehashed(digest_of(request))))
    except (InvalidSignature, ValueError):
        return False
    return True


def raw_signature(signature: bytes, curve: ec.EllipticCurve) -> bytes:
    """Return r and s, each as long as a coordinate, of a signature in DER."""
    size = CURVES[_CURVE_NAMES[curve.name]][1]
    r, s = decode_dss_signature(signature)
    return r.to_bytes(size) + s.to_bytes(size)


def der_signature(signature: bytes, curve: ec.EllipticCurve) -> bytes:
    """Return in DER a signature given as r and s; ValueError unless each is as long as a coordinate."""
    size = CURVES[_CURVE_NAMES[curve.name]][1]
    if len(signature) != 2 * size:
        raise ValueError("not r and s")
    return encode_dss_signature(int.from_bytes(signature[:size]), int.from_bytes(signature[size:]))


def _gcm_encrypt(key: bytes | bytearray, request: KeyRequest) -> KeyAnswer:
    iv = os.urandom(GCM_IV_BYTES)
    sealed = AESGCM(key).encrypt(iv, request.value, request.aad)
    return KeyAnswer(value=sealed[:-GCM_TAG_BYTES], iv=iv, tag=sealed[-GCM_TAG_BYTES:])


def _gcm_decrypt(key: bytes | bytearray, request: KeyRequest) -> KeyAnswer:
    try:
        sealed = request.value + (request.tag or b"")
        return KeyAnswer(value=AESGCM(key).decrypt(request.iv or b"", sealed, request.aad))
    except InvalidTag:
        raise undecryptable() from None


def _cbc(key: bytes | bytearray, request: KeyRequest, *, encrypts: bool, padded: bool) -> bytes:
    value, cipher = request.value, Cipher(AES(key), modes.CBC(request.iv or b""))
    if encrypts:
        if padded:
            padder = PKCS7(BLOCK_BYTES * 8).padder()
            value = padder.update(value) + padder.finalize()
        encryptor = cipher.encryptor()
        return encryptor.update(value) + encryptor.finalize()
    decryptor = cipher.decryptor()
    value = decryptor.update(value) + decryptor.finalize()
    if not padded:
        return value
    unpadder = PKCS7(BLOCK_BYTES * 8).unpadder()
    try:
        return unpadder.update(value) + unpadder.finalize()
    except ValueError:
        raise undecryptable() from None


def _unwrap(key: bytes | bytearray, value: bytes) -> bytes:
    try:
        return aes_key_unwrap(bytes(key), value)
    except InvalidUnwrap:
        raise undecryptable() from None
