import json

import pytest

from stockade.kernel.faults import Fault, FaultKind
from stockade.services.openai.engines.embedded.engine import Accepted, Finished, Text
from stockade.services.openai.engines.embedded.generator import _Answer
from stockade.services.openai.engines.embedded.replies_wire import Usage

PROGRESS = {"choices": [{"delta": {"content": None}, "finish_reason": None}], "prompt_progress": {"processed": 1}}
USAGE = {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}


def chat(text=None, finish=None):
    return {"choices": [{"delta": {"content": text} if text else {}, "finish_reason": finish}]}


def completion(text, finish=None, **more):
    return {"choices": [{"text": text, "finish_reason": finish}], **more}


@pytest.fixture
def emitted():
    return []


@pytest.fixture
def answer(emitted):
    return _Answer(emitted.append)


def play(answer, *events, fault=None):
    stopped = [answer.take(json.dumps(event)) for event in events]
    answer.end(fault)
    return stopped


def test_a_chat_is_read_from_its_events(answer, emitted):
    assert not any(play(answer, PROGRESS, chat("Hel"), chat("lo"), chat(finish="stop"), USAGE))
    assert emitted == [Accepted(), Text("Hel"), Text("lo"), Finished("stop", Usage(5, 2)), None]


def test_a_completion_has_its_usage_in_the_last_event(answer, emitted):
    play(answer, completion("Hel"), completion("", "length", usage=USAGE["usage"]))
    assert emitted == [Text("Hel"), Finished("length", Usage(5, 2)), None]


def test_from_the_moment_of_cancelling_the_engine_is_told_to_stop(answer, emitted):
    assert answer.take(json.dumps(PROGRESS)) is False
    answer.cancelled.set()
    assert answer.take(json.dumps(chat("more"))) is True
    answer.end(None)
    assert not any(isinstance(piece, Fault) for piece in emitted)


def test_a_prompt_beyond_the_context_is_the_callers_fault(answer, emitted):
    error = {
        "code": 400,
        "type": "exceed_context_size_error",
        "n_ctx": 4096,
        "n_prompt_tokens": 5000,
        "message": "internal words",
    }
    assert play(answer, {"error": error}) == [True]
    fault, end = emitted
    assert (fault.kind, fault.code, end) == (FaultKind.INVALID, "context_length_exceeded", None)
    assert "4096" in fault.message
    assert "internal words" not in fault.message


@pytest.mark.parametrize("event", [{"error": {"code": 500}}, {"error": {}}, {}, {"choices": [{}]}, []])
def test_an_event_that_makes_no_sense_ends_the_answer_with_a_fault(answer, emitted, event):
    assert play(answer, event) == [True]
    assert [type(piece) for piece in emitted] == [Fault, type(None)]
    assert emitted[0].kind is FaultKind.INTERNAL


def test_an_answer_that_breaks_off_is_not_passed_off_as_whole(answer, emitted):
    play(answer, chat("Hel"))
    assert emitted[1].kind is FaultKind.INTERNAL


def test_a_closed_event_loop_stops_the_engine_and_nothing_is_raised_into_it():
    def closed(_piece):
        raise RuntimeError("Event loop is closed")

    assert play(_Answer(closed), PROGRESS) == [True]
