"""The console, and the way by which it asks management: the same pipeline as any client's requests take, with the same checks and records."""

from __future__ import annotations

import msgspec

from stockade.console.app import Console
from stockade.console.arm import Answer, Ask, Question
from stockade.identity.services import IdentityServices
from stockade.kernel.ids import new_guid
from stockade.management import arm_wire
from stockade.management.pipeline import Admitted, Head, Pipeline


def console(services: IdentityServices, pipeline: Pipeline) -> Console:
    """Return the console's application."""
    return Console(services, asking(pipeline))


def asking(pipeline: Pipeline) -> Ask:
    """Return what sends a request through the pipeline as its own HTTP application does, without the HTTP."""

    def ask(question: Question) -> Answer:
        path, _, query = question.path.partition("?")
        sent = {
            "authorization": f"Bearer {question.token.reveal_text()}",
            "user-agent": question.client,
            "content-type": "application/json",
        }
        head = Head(question.method, path.encode(), query.encode(), sent, new_guid(), question.address)
        admitted: Admitted | None = None
        try:
            admitted = pipeline.admit(head)
            reply = pipeline.answer(admitted, arm_wire.read_json(question.body, sent["content-type"]))
        except Exception as failure:  # noqa: BLE001 - refuse() logs what it does not know and shows none of it
            reply = pipeline.refuse(head, failure, admitted)
        # As it would arrive: some bodies are JSON already.
        return Answer(reply.status, msgspec.json.decode(msgspec.json.encode(reply.body)), reply.headers)

    return ask
