"""The controls that can be tried before they bite, and how each stands on an account.

What Azure's own properties ask for (`networkAcls`, `restrictOutboundNetworkAccess`, `disableLocalAuth`, roles) says whether a control is wanted;
its mode says what a refusal of it does. Azure has only on and off. Source: design, section 4, rule 8.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, TypeAlias

Mode: TypeAlias = Literal["enforce", "report", "off"]
"""Refuse; let pass and record what would have been refused; do not look."""


class Control(StrEnum):
    """The controls, by the name the extension property gives them."""

    NETWORK = "network"
    """`networkAcls`, `publicNetworkAccess`, network security perimeters."""
    DLP = "dlp"
    """`restrictOutboundNetworkAccess` and `allowedFqdnList`, on what requests carry."""
    OUTPUT = "output"
    """The same list, on what a model answers. `enforce` redacts in place."""
    LOCAL_AUTH = "localAuth"
    """`disableLocalAuth`."""
    RBAC = "rbac"
    """The data action of an operation, for identities."""
