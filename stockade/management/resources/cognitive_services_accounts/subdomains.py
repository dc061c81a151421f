"""Custom subdomains: unique on the platform, also against soft-deleted accounts, and never changed once set.

A name is held by a document of its own, `/providers/stockade.addresses/subdomains/{name}`, so that uniqueness is a property of the
database's key rather than of a search, and a soft-deleted account keeps its name without being in force.
"""

from __future__ import annotations

import re

from stockade.kernel.faults import Fault, FaultKind
from stockade.management.resource_type import display_id
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Document, State

TYPE = "stockade.addresses/subdomains"
_PREFIX = "/providers/stockade.addresses/subdomains/"
_PATTERN = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,62}[a-zA-Z0-9])")

# On a bare machine the subdomain is the first path segment, where the regional endpoint has the services' own paths; with a domain it is a
# host name beside ours. Names that are, or may become, either of them can be nobody's.
RESERVED = frozenset(
    """
    agents ai anomalydetector api audio avatar batch breaksentence cognitiveservices computervision console contentmoderator contentsafety
    contentunderstanding customvision customvoice detect dictionary documentintelligence face formrecognizer health healthz
    immersivereader language languages livez localhost login luis management metadata metrics metricsadvisor models openai personalizer
    providers qnamaker readyz speech speechtotext status stockade sts stt subscriptions text texttospeech translate translator
    transliterate tts vault videotranslation vision www
    """.split()  # noqa: SIM905 - 60 names, readable
)


def check_form(name: str) -> None:
    """Refuse a name that could not be a host name or a path of its own; Fault(INVALID)."""
    if not _PATTERN.fullmatch(name):
        message = (
            f"The subdomain name '{name[:80]}' is not valid. It has 2 to 64 letters, digits and hyphens, "
            "and neither starts nor ends with a hyphen."
        )
        raise Fault(
            FaultKind.INVALID, message, code="InvalidCustomSubDomainName", target="properties.customSubDomainName"
        )
    if name.lower() in RESERVED:
        raise Fault(
            FaultKind.INVALID,
            f"The subdomain name '{name}' is reserved.",
            code="InvalidCustomSubDomainName",
            target="properties.customSubDomainName",
        )


def holder(reader: Reader, name: str) -> Document | None:
    """Return the account that holds a name, live or soft-deleted; None when it is free."""
    reservation = reader.get(_PREFIX + name)
    return (
        reader.get(str(reservation.body["account"]), State.LIVE, State.SOFT_DELETED)
        if reservation is not None
        else None
    )


def in_use(name: str, held_by: Document) -> Fault:
    """Return the refusal of a taken name. It does not say whose it is: that may be another subscription's business."""
    message = f"Please pick a different name. The subdomain name '{name}' is not available as it's already used by a resource."
    if held_by.state is State.SOFT_DELETED:
        message += " That resource is soft-deleted: restore it, or purge it to free the name."
    return Fault(FaultKind.CONFLICT, message, code="CustomDomainInUse", target="properties.customSubDomainName")


def reserve(writer: Writer, name: str, account: Document) -> None:
    """Give a free name to an account; nothing changes when it has it."""
    if writer.get(_PREFIX + name) is None or holder(writer, name) is None:
        writer.put(_PREFIX + name, TYPE, {"account": account.id, "displayId": display_id(account)})


def release(writer: Writer, name: str, account: Document) -> None:
    """Free an account's name."""
    reservation = writer.get(_PREFIX + name)
    if reservation is not None and reservation.body["account"] == account.id:
        writer.remove(reservation)
