"""Kinds of accounts, and the SKUs each is offered in.

Source: contracts, control-plane sections 2 and 3 for kinds, SKU names, tiers and where E0 exists. Calls per minute follow what Azure
publishes per kind where it does (20 a minute for free Vision and Face, 10 a second for their paid SKUs and so on); an account of OpenAI
or AIServices has no limit of its own there either: its deployments have.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

PROVIDER = "Microsoft.CognitiveServices"
ACCOUNTS = f"{PROVIDER}/accounts"

CLOSED_SKU = "E0"
"""The SKU for customer-managed keys; each subscription needs an approved request for it (`management/access/`).

Azure has it for LUIS, Face, Content Moderator and Personalizer, which take a customer's key with no other SKU, and where it also means that
nobody of the maker's reads the data. LUIS with E0 allows what F0 does.
"""
TOKEN_SERVICE = "Token Service API"  # noqa: S105 - a label
"""The endpoint name of the ten-minute token service, which every kind has."""


@dataclass(frozen=True, slots=True)
class Sku:
    """One pricing tier. calls_per_minute: None is no limit on the account. extension: Azure has no such SKU of the kind."""

    name: str
    calls_per_minute: int | None
    extension: bool = False

    @property
    def tier(self) -> str:
        return "Free" if self.name == "F0" else "Standard"

    @property
    def needs_approval(self) -> bool:
        return self.name == CLOSED_SKU


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of account.

    skus:        cheapest first, so that a change to an earlier one is a downgrade.
    endpoints:   names under which ARM's `properties.endpoints` lists addresses of the data plane.
    deployments: whether models are deployed in it.
    trusted:     whether `networkAcls.bypass` means anything.
    anywhere:    whether the location `global` is offered.
    """

    name: str
    skus: tuple[Sku, ...]
    endpoints: tuple[str, ...] = ()
    deployments: bool = False
    trusted: bool = False
    anywhere: bool = False

    def offered(self, *, strict: bool) -> tuple[Sku, ...]:
        """Return the SKUs that new accounts can have. strict: only those that Azure has too."""
        return tuple(sku for sku in self.skus if not (strict and sku.extension))

    def sku(self, name: str) -> Sku | None:
        return next((sku for sku in self.skus if sku.name.lower() == name.lower()), None)


def _skus(**calls_per_minute: int | None) -> tuple[Sku, ...]:
    return tuple(Sku(name, limit) for name, limit in calls_per_minute.items())


OPENAI_ENDPOINTS = ("OpenAI Language Model Instance API",)

_KINDS = (
    Kind("AIServices", _skus(S0=None), endpoints=OPENAI_ENDPOINTS, deployments=True, trusted=True),
    Kind("AnomalyDetector", _skus(F0=600, S0=4800)),
    Kind("CognitiveServices", _skus(S0=600)),
    Kind("ComputerVision", _skus(F0=20, S1=600)),
    Kind("ContentModerator", _skus(F0=60, S0=600, E0=600)),
    Kind("ContentSafety", _skus(F0=300, S0=6000)),
    Kind("ConversationalLanguageUnderstanding", _skus(F0=300, S=1000)),
    Kind("CustomVision.Prediction", _skus(F0=120, S0=600)),
    Kind("CustomVision.Training", _skus(F0=120, S0=600)),
    Kind("Face", _skus(F0=20, S0=600, E0=600)),
    Kind("FormRecognizer", _skus(F0=60, S0=900)),
    Kind("HealthInsights", _skus(F0=300, S0=600)),
    Kind("ImmersiveReader", _skus(F0=300, S0=600, S1=600)),
    Kind("LUIS", _skus(F0=300, S0=3000, E0=300)),
    Kind("LUIS.Authoring", _skus(F0=300, E0=300)),
    Kind("MetricsAdvisor", _skus(F0=600, S0=600)),
    Kind("OpenAI", _skus(S0=None), endpoints=OPENAI_ENDPOINTS, deployments=True, trusted=True),
    Kind("Personalizer", _skus(F0=600, S0=3000, E0=3000)),
    Kind("QnAMaker", _skus(F0=180, S0=600)),
    Kind("SpeechServices", _skus(F0=60, S0=6000)),
    Kind("TextAnalytics", _skus(F0=300, S=1000)),
    Kind("TextTranslation", _skus(F0=600, S1=6000, S2=6000, S3=6000, S4=6000), anywhere=True),
)


def _closed_too(kind: Kind) -> Kind:
    """Return the kind with E0, which here every kind has: as much as the best of its other SKUs allows."""
    if kind.sku(CLOSED_SKU) is not None:
        return kind
    return replace(kind, skus=(*kind.skus, Sku(CLOSED_SKU, kind.skus[-1].calls_per_minute, extension=True)))


KINDS: dict[str, Kind] = {kind.name.lower(): _closed_too(kind) for kind in _KINDS}
"""By lower-case name."""

SWITCHABLE = frozenset({"AIServices", "OpenAI"})
"""The only kinds an account can change between. Source: contracts, control-plane section 1.2."""
