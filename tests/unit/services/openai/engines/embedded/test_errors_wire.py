import ast
import json
from pathlib import Path

from stockade.kernel.faults import Fault, FaultKind
from stockade.services.openai.engines import embedded
from stockade.services.openai.engines.embedded.errors_wire import WIRE, error_body, error_headers, error_status


def test_the_table_has_exactly_the_kinds_that_this_engine_raises():
    raised = {
        FaultKind[node.attr]
        for source in Path(embedded.__path__[0]).glob("*.py")
        if source.name != "errors_wire.py"
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "FaultKind"
    }
    assert raised == WIRE.keys()


def test_an_error_has_the_four_members_that_clients_read():
    fault = Fault(FaultKind.UNSUPPORTED, "no tools", target="tools")
    assert error_status(fault) == 400
    assert json.loads(error_body(fault)) == {
        "error": {
            "message": "no tools",
            "type": "invalid_request_error",
            "code": "unsupported_parameter",
            "param": "tools",
        }
    }
    assert error_headers(fault) == []


def test_the_finer_code_wins_and_waiting_is_told_in_whole_seconds_upwards():
    fault = Fault(FaultKind.LIMIT, "busy", code="engine_overloaded", retry_after_s=0.2)
    assert json.loads(error_body(fault))["error"]["code"] == "engine_overloaded"
    assert error_headers(fault) == [(b"retry-after", b"1")]
