"""Key Vault's algorithms once more, straight from RFC 7518 and without our own table: what provider and platform are compared with."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature

from stockade.keys.material import Jwk

SHA = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
CURVES = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1(), "P-256K": ec.SECP256K1()}
EC_ALGORITHM = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512", "P-256K": "ES256K"}
EC_DIGEST = {"ES256": SHA["256"], "ES384": SHA["384"], "ES512": SHA["512"], "ES256K": SHA["256"]}


def digest(algorithm: str, message: bytes) -> bytes:
    sha = hashes.Hash(EC_DIGEST.get(algorithm) or SHA[algorithm[2:]])
    sha.update(message)
    return sha.finalize()


def key_of(jwk: Jwk) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey:
    if jwk.n is not None:
        return rsa.RSAPublicNumbers(int.from_bytes(jwk.e or b""), int.from_bytes(jwk.n)).public_key()
    assert jwk.x is not None
    assert jwk.y is not None
    assert jwk.crv is not None
    assert len(jwk.x) == len(jwk.y) == {"P-256": 32, "P-384": 48, "P-521": 66, "P-256K": 32}[jwk.crv]
    return ec.EllipticCurvePublicNumbers(int.from_bytes(jwk.x), int.from_bytes(jwk.y), CURVES[jwk.crv]).public_key()


def verifies(jwk: Jwk, algorithm: str, message: bytes, signature: bytes) -> bool:
    """Verify what a provider signed. message: not its digest."""
    key = key_of(jwk)
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            half = len(signature) // 2
            assert half == len(jwk.x or b"")
            der = encode_dss_signature(int.from_bytes(signature[:half]), int.from_bytes(signature[half:]))
            key.verify(der, message, ec.ECDSA(EC_DIGEST[algorithm]))
        else:
            sha = SHA[algorithm[2:]]
            pss = padding.PSS(padding.MGF1(sha), sha.digest_size)
            key.verify(signature, message, pss if algorithm[:2] == "PS" else padding.PKCS1v15(), sha)
    except InvalidSignature:
        return False
    return True


def encrypt(jwk: Jwk, algorithm: str, value: bytes) -> bytes:
    key = key_of(jwk)
    assert isinstance(key, rsa.RSAPublicKey)
    sha = {"RSA-OAEP": hashes.SHA1(), "RSA-OAEP-256": hashes.SHA256()}.get(algorithm)
    return key.encrypt(value, padding.OAEP(padding.MGF1(sha), sha, None) if sha else padding.PKCS1v15())


def prehashed(algorithm: str) -> Prehashed:
    return Prehashed(EC_DIGEST.get(algorithm) or SHA[algorithm[2:]])
