"""Google's Tink as a second opinion on the stored format: the same key, salt and associated data in somebody else's code."""

from __future__ import annotations

import io

import tink
from tink import secret_key_access, streaming_aead
from tink.proto import aes_gcm_hkdf_streaming_pb2, common_pb2, tink_pb2

from stockade.content.format import SEGMENT_BYTES

_TYPE = "type.googleapis.com/google.crypto.tink.AesGcmHkdfStreamingKey"


class _Unclosed(io.BytesIO):
    """Tink closes what it writes to."""

    def close(self) -> None:
        pass


def primitive(key: bytes) -> streaming_aead.StreamingAead:
    """Return Tink's AES256-GCM-HKDF streaming AEAD with our segments."""
    streaming_aead.register()
    parameters = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingParams(
        ciphertext_segment_size=SEGMENT_BYTES, derived_key_size=32, hkdf_hash_type=common_pb2.SHA256
    )
    value = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKey(version=0, key_value=key, params=parameters)
    keyset = tink_pb2.Keyset(primary_key_id=1)
    entry = keyset.key.add()
    entry.key_id, entry.status, entry.output_prefix_type = 1, tink_pb2.ENABLED, tink_pb2.RAW
    entry.key_data.type_url, entry.key_data.value = _TYPE, value.SerializeToString()
    entry.key_data.key_material_type = tink_pb2.KeyData.SYMMETRIC
    handle = tink.proto_keyset_format.parse(keyset.SerializeToString(), secret_key_access.TOKEN)
    return handle.primitive(streaming_aead.StreamingAead)


def decrypt(key: bytes, stored: bytes, bound: bytes) -> bytes:
    with primitive(key).new_decrypting_stream(io.BytesIO(stored), bound) as stream:
        return bytes(stream.read())


def encrypt(key: bytes, body: bytes, bound: bytes) -> bytes:
    written = _Unclosed()
    with primitive(key).new_encrypting_stream(written, bound) as stream:
        stream.write(body)
    return written.getvalue()
