"""Which services ask through Lockbox, which are never opened, and which keep nothing here that could be.

Source: contracts, control-plane sections 2, 3 and 7.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

Treatment: TypeAlias = Literal["ask", "never", "own-storage"]
"""`ask`: with the customer's approval. `never`: not to operators, request or not. `own-storage`: content lies in the customer's storage (BYOS)."""

CLOSED_KINDS: Final = frozenset({"luis", "luis.authoring", "face", "contentmoderator", "personalizer"})
"""On E0 never accessible to operators."""
OWN_STORAGE_KINDS: Final = frozenset({"speechservices", "speech"})


def treatment(kind: str, sku: str) -> Treatment:
    """Return how operators' requests for an account are treated. Kinds that Azure's list does not name ask too."""
    named = kind.lower()
    if named in CLOSED_KINDS and sku.upper() == "E0":
        return "never"
    return "own-storage" if named in OWN_STORAGE_KINDS else "ask"
