import json

from stockade.services.openai.engines.embedded.catalogue import MODELS, SMOLLM2
from stockade.services.openai.engines.embedded.replies_wire import DONE, TextReply, Usage, models_reply

USAGE = Usage(prompt_tokens=5, completion_tokens=2)


def events(stream: bytes) -> list[dict]:
    assert stream.endswith(DONE)
    return [
        json.loads(line.removeprefix("data: ")) for line in stream.removesuffix(DONE).decode().split("\n\n") if line
    ]


def streamed(operation, *, include_usage):
    reply = TextReply(operation, SMOLLM2, 1700000000, include_usage=include_usage)
    return events(reply.opening() + reply.piece("Hel") + reply.piece("lo") + reply.closing("stop", USAGE))


def test_a_whole_chat():
    reply = json.loads(TextReply("chat", SMOLLM2, 1700000000, include_usage=False).whole("Hello", "length", USAGE))
    assert reply["object"] == "chat.completion"
    assert reply["id"].startswith("chatcmpl-")
    assert reply["created"] == 1700000000
    assert reply["model"] == SMOLLM2.name
    assert reply["choices"] == [
        {
            "index": 0,
            "finish_reason": "length",
            "logprobs": None,
            "message": {"role": "assistant", "content": "Hello", "refusal": None},
        }
    ]
    assert reply["usage"] == {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}


def test_a_whole_completion():
    reply = json.loads(TextReply("completion", SMOLLM2, 1700000000, include_usage=False).whole("Hello", "stop", USAGE))
    assert reply["object"] == "text_completion"
    assert reply["choices"] == [{"index": 0, "finish_reason": "stop", "logprobs": None, "text": "Hello"}]


def test_a_streamed_chat_names_the_role_first_and_the_reason_last():
    chunks = streamed("chat", include_usage=False)
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [
        {"role": "assistant", "content": ""},
        {"content": "Hel"},
        {"content": "lo"},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, None, "stop"]
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert not any("usage" in chunk for chunk in chunks)


def test_a_streamed_completion_is_text_only():
    assert [chunk["choices"][0]["text"] for chunk in streamed("completion", include_usage=False)] == ["Hel", "lo", ""]


def test_usage_that_was_asked_for_comes_last_without_a_choice():
    *others, last = streamed("chat", include_usage=True)
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 7
    assert all(chunk["usage"] is None for chunk in others)


def test_the_list_of_models_says_what_each_really_is():
    listed = json.loads(models_reply(MODELS.values()))
    assert {entry["id"]: entry["description"] for entry in listed["data"]} == {m.name: m.label for m in MODELS.values()}
