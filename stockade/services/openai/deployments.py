"""From a deployment's name to the engine that serves its model, and what callers may see of models and deployments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from stockade.kernel.faults import Fault, FaultKind
from stockade.policy.snapshot import AccountPolicy, DeploymentPolicy, Snapshot
from stockade.services.openai.bodies import encode, json_reply
from stockade.services.openai.catalogue import catalogue, is_built_in, label
from stockade.services.openai.engines.engine import Engine, engine_for
from stockade.services.openai.handler import Bodiless
from stockade.services.service import Call, Reply, Stream
from stockade.settings import Model, Settings

DEPLOYMENT_MISSING: Final = (
    "The API deployment for this resource does not exist. If you created the deployment within the last 5 minutes, please wait a moment "
    "and try again."
)


@dataclass(frozen=True, slots=True)
class Served:
    """A model of the catalogue, its engine, and the model's name there, ready to be put into a body."""

    model: Model
    engine: Engine
    engine_model: msgspec.Raw


class Deployments:
    """The models of this installation, each with its engine."""

    def __init__(self, settings: Settings) -> None:
        self.models = catalogue(settings)
        socket = str(settings.supervisor_socket)
        self._served: dict[tuple[str, str, str], Served] = {}
        for model in self.models:
            engine = engine_for(model, socket, settings.limits)
            key = (model.format.lower(), model.name.lower(), model.version)
            self._served[key] = Served(model, engine, msgspec.Raw(encode(engine.model_name)))

    def find(self, call: Call, name: str, capability: str) -> Served:
        """Find the deployment of that name, note it in the call, and return what serves it."""
        deployment = call.snapshot.only("deployment", (call.account.id, name.lower()))
        if deployment is None:
            raise Fault(FaultKind.DEPLOYMENT_NOT_FOUND, DEPLOYMENT_MISSING)
        served = self._serving(deployment)
        if capability not in served.model.capabilities:
            raise Fault(
                FaultKind.UNSUPPORTED,
                f"The {capability} operation does not work with the specified model, {served.model.name}. "
                "Please choose different model and try again.",
            )
        call.deployment = deployment
        return served

    def close(self) -> None:
        """Let go of connections to engines."""
        for served in self._served.values():
            served.engine.close()

    def _serving(self, deployment: DeploymentPolicy) -> Served:
        key = (deployment.model_format.lower(), deployment.model.lower(), deployment.model_version)
        served = self._served.get(key)
        if served is None:
            raise Fault(
                FaultKind.UNAVAILABLE, f"The model '{deployment.model}' is no longer in this platform's catalogue."
            )
        return served


class Listings(Bodiless):
    """Answers questions about models and deployments."""

    answers = frozenset({"Models_List", "Models_Get", "Deployments_List", "Deployments_Get"})

    def __init__(self, deployments: Deployments) -> None:
        self._models = deployments.models

    async def answer(self, call: Call) -> Reply | Stream:
        """Answer ourselves: no engine is asked."""
        match call.operation.name:
            case "Models_List":
                return json_reply({"object": "list", "data": [_describe(model) for model in self._models]})
            case "Models_Get":
                return json_reply(self._one_model(call.values["model"]))
            case "Deployments_List":
                found = _deployments(call.snapshot, call.account)
                return json_reply({"object": "list", "data": [_deployment(one) for one in found]})
        one = call.snapshot.only("deployment", (call.account.id, call.values["deployment"].lower()))
        if one is None:
            raise Fault(FaultKind.DEPLOYMENT_NOT_FOUND, DEPLOYMENT_MISSING)
        return json_reply(_deployment(one))

    def _one_model(self, name: str) -> dict[str, Any]:
        for model in self._models:
            if model.name.lower() == name.lower():
                return _describe(model)
        raise Fault(FaultKind.NOT_FOUND, f"The model '{name[:100]}' does not exist.", code="model_not_found")


def _describe(model: Model) -> dict[str, Any]:
    described: dict[str, Any] = {
        "id": model.name,
        "object": "model",
        "created": 0,
        "owned_by": "stockade" if is_built_in(model) else "upstream",
        "status": "succeeded",
        "lifecycle_status": "generally-available",
        "capabilities": {
            "chat_completion": "chatCompletion" in model.capabilities,
            "completion": "completion" in model.capabilities,
            "embeddings": "embeddings" in model.capabilities,
            "fine_tune": False,
            "inference": True,
        },
    }
    description = label(model)
    if description is not None:
        described["description"] = description
    return described


def _deployments(snapshot: Snapshot, account: AccountPolicy) -> list[DeploymentPolicy]:
    found: tuple[DeploymentPolicy, ...] = snapshot.all("deployments-of", account.id)
    return sorted(found, key=lambda deployment: deployment.name.lower())


def _deployment(deployment: DeploymentPolicy) -> dict[str, Any]:
    return {
        "id": deployment.name,
        "object": "deployment",
        "model": deployment.model,
        "status": "succeeded",
        "owner": "organization-owner",
        "created_at": int(deployment.created_at),
        "updated_at": int(deployment.created_at),
        "scale_settings": {"scale_type": "standard"},
    }
