"""`Stockade.Lockbox`: what operators ask, and accounts' statements. `management/lockbox/` has the wire and all the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from stockade.management.cognitive_services.kinds import ACCOUNTS
from stockade.management.lockbox import deciding, documents, filing, objects, policies, view
from stockade.management.lockbox.documents import Request
from stockade.management.resource_type import Call, Plugin, Reply, Route, RouteHandler, bodies
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Json

PROVIDER: Final = "Stockade.Lockbox"
_REQUESTS = f"/subscriptions/{{subscription}}/providers/{PROVIDER}/requests"
_ONE = f"{_REQUESTS}/{{request}}"
_READ = f"{PROVIDER}/requests/read"
_ACCOUNT = f"/subscriptions/{{subscription}}/resourceGroups/{{group}}/providers/{ACCOUNTS}/{{account}}"
_POLICY = f"{_ACCOUNT}/providers/{policies.TYPE}/default"


class Lockbox(Plugin):
    """Stockade.Lockbox."""

    name = PROVIDER

    @property
    def routes(self) -> Sequence[Route]:
        # Data actions, which no `*` of an Owner's holds: who may use a subscription does not make themselves its operator.
        return (
            Route("PUT", _ONE, deciding.WRITE, _file, writes=True, data=True),
            Route("GET", _REQUESTS, _READ, _list),
            Route("GET", _ONE, _READ, _get),
            Route("POST", f"{_ONE}/review", deciding.REVIEW, _answered(deciding.review), writes=True, data=True),
            Route("POST", f"{_ONE}/cancel", deciding.WRITE, _answered(deciding.cancel), writes=True, data=True),
            Route("POST", f"{_ONE}/complete", deciding.WRITE, _answered(deciding.complete), writes=True, data=True),
            Route(
                "POST", f"{_ONE}/breakGlass", deciding.WRITE, _answered(deciding.break_glass), writes=True, data=True
            ),
            # Several rights are each enough: the handler asks.
            Route("POST", f"{_ONE}/revoke", None, _answered(deciding.revoke), writes=True),
            Route("GET", f"{_ACCOUNT}/providers/{PROVIDER}/objects", objects.READ, objects.listed, scope=_ACCOUNT),
            Route("GET", _POLICY, f"{policies.TYPE}/read", policies.show, scope=_ACCOUNT),
            Route("PUT", _POLICY, f"{policies.TYPE}/write", policies.put, writes=True, scope=_ACCOUNT),
            Route("DELETE", _POLICY, f"{policies.TYPE}/delete", policies.delete, writes=True, scope=_ACCOUNT),
            Route("POST", f"{_POLICY}/draft", f"{policies.TYPE}/write", policies.draft, scope=_ACCOUNT),
        )


def _file(call: Call, writer: Writer) -> Reply:
    return Reply(201, view.shown(filing.file(call, writer), call.now))


def _list(call: Call, reader: Reader) -> Json:
    found = documents.every(reader, call.parameters["subscription"].lower())
    return bodies(view.shown(one, call.now) for one in found)


def _get(call: Call, reader: Reader) -> Json:
    return deciding.shown(call, reader, deciding.asked_about(call, reader))


def _answered(do: Callable[[Call, Writer], Request]) -> RouteHandler:
    def answer(call: Call, writer: Writer) -> Json:
        return view.shown(do(call, writer), call.now)

    return answer


PLUGIN = Lockbox()
