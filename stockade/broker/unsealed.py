"""What the key broker has only while the platform is open."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stockade.broker.account_keys import AccountKeys
from stockade.broker.customer_keys import CustomerKeys
from stockade.broker.evidence import Verifier
from stockade.broker.floors import Floors
from stockade.broker.grants import Grants
from stockade.broker.lockbox import Lockbox
from stockade.broker.log_heads import TreeHeads
from stockade.broker.providers import Installed
from stockade.broker.vault_keys import VaultKeys
from stockade.keys.keyring import Keyring


@dataclass(frozen=True, slots=True)
class Unsealed:
    """One platform, open."""

    keyring: Keyring
    accounts: AccountKeys
    grants: Grants
    verifier: Verifier
    vault: VaultKeys
    customers: CustomerKeys
    providers: Installed
    signing: Ed25519PrivateKey
    request_signing: Ed25519PrivateKey
    floors: Floors
    heads: TreeHeads
    lockbox: Lockbox
