"""The models this installation offers: the built-in ones, and those the settings name."""

from __future__ import annotations

from stockade.services.openai.engines.embedded.catalogue import MODELS
from stockade.settings import Model, Settings

BUILT_IN = tuple(
    Model(name=model.name, version=model.version, format=model.format, capabilities=tuple(sorted(model.capabilities)))
    for model in MODELS.values()
)
_LABELS = {model.name: model.label for model in MODELS.values()}


def catalogue(settings: Settings) -> tuple[Model, ...]:
    """Return every model, a configured one replacing a built-in one of the same name and version.

    Raises ValueError for a configured model without an upstream that is not built in.
    """
    models = {(model.name.lower(), model.version): model for model in BUILT_IN}
    for model in settings.models:
        if model.upstream is None and (model.name.lower(), model.version) not in models:
            raise ValueError(f"model {model.name!r} version {model.version!r} has no upstream and is not built in")
        models[model.name.lower(), model.version] = model
    return tuple(models.values())


def is_built_in(model: Model) -> bool:
    """Say whether the model comes with Stockade rather than from an upstream."""
    return model.upstream is None


def label(model: Model) -> str | None:
    """Return the honest sentence that goes with a built-in model wherever it is offered; None for the operator's own."""
    return _LABELS.get(model.name) if is_built_in(model) else None


def find(models: tuple[Model, ...], model_format: str, name: str, version: str | None) -> Model | None:
    """Return the model of that format and name (any case); without a version, the newest by name order of versions."""
    fitting = [m for m in models if m.format.lower() == model_format.lower() and m.name.lower() == name.lower()]
    if version:
        fitting = [m for m in fitting if m.version == version]
    return max(fitting, key=lambda m: m.version, default=None)
