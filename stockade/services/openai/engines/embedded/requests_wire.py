"""Read OpenAI requests for the built-in models: take what the model can do, refuse the rest by name, ignore only what changes nothing.

Source: https://platform.openai.com/docs/api-reference (chat/create, completions/create, embeddings/create).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from stockade.kernel.faults import Fault, FaultKind

from .catalogue import BuiltInModel
from .json_schema import bounded

MAX_INPUTS = 2048
"""Texts per embeddings request. Source: API reference of embeddings/create."""

MAX_CHARACTERS_PER_TOKEN = 16
"""No text in any language has so long tokens on average; what is longer cannot fit and is refused before it is split into tokens."""

_CONTROL = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
"""Tokens that begin and end a turn in SmolLM2's template; inside a message's text they would forge another one."""

_HARMLESS = frozenset(
    {"user", "metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "parallel_tool_calls"}
)
"""Fields that change no answer of this model."""

_NEUTRAL: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "tools": ((None, []), "It cannot call tools."),
    "tool_choice": ((None, "none"), "It cannot call tools."),
    "functions": ((None, []), "It cannot call functions."),
    "function_call": ((None, "none"), "It cannot call functions."),
    "n": ((None, 1), "It gives one choice per request."),
    "best_of": ((None, 1), "It gives one choice per request."),
    "logprobs": ((None, False), "It returns no log probabilities."),
    "top_logprobs": ((None, 0), "It returns no log probabilities."),
    "logit_bias": ((None, {}), "It takes no bias per token."),
    "modalities": ((None, ["text"]), "It answers with text only."),
    "audio": ((None,), "It answers with text only."),
    "prediction": ((None,), "It takes no predicted output."),
    "reasoning_effort": ((None, "none"), "It does not reason."),
    "verbosity": ((None, "medium"), "Its answers have no levels of detail."),
    "web_search_options": ((None,), "It does not search."),
    "store": ((None, False), "It stores nothing."),
    "service_tier": ((None, "auto", "default"), "It has one tier."),
    "echo": ((None, False), "It does not repeat the prompt."),
    "suffix": ((None, ""), "It cannot fill in before a suffix."),
}
"""Fields whose named values ask for nothing special; any other value is refused with the sentence."""


class _Wire(msgspec.Struct, forbid_unknown_fields=True):
    pass


class _StreamOptions(_Wire):
    include_usage: bool = False
    include_obfuscation: bool = False


class _Generate(_Wire):
    model: str | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    presence_penalty: Annotated[float, msgspec.Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, msgspec.Meta(ge=-2, le=2)] | None = None
    seed: int | None = None
    stop: str | Annotated[list[str], msgspec.Meta(max_length=4)] | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None


class _Message(_Wire):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[dict[str, Any]] | None = None
    # Replies that clients send back carry these, empty.
    refusal: None = None
    audio: None = None
    function_call: None = None
    tool_calls: Annotated[list[Any], msgspec.Meta(max_length=0)] | None = None
    annotations: Annotated[list[Any], msgspec.Meta(max_length=0)] | None = None


class _Chat(_Generate, kw_only=True):
    messages: Annotated[list[_Message], msgspec.Meta(min_length=1, max_length=1024)]
    max_completion_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    response_format: dict[str, Any] | None = None


class _Completion(_Generate, kw_only=True):
    prompt: Any


class _Embeddings(_Wire):
    input: Any
    model: str | None = None
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    user: Any = None


@dataclass(frozen=True, slots=True)
class Generation:
    """An admitted request for text: what the engine is told, and how the reply travels."""

    operation: Literal["chat", "completion"]
    prompt: Mapping[str, Any] = field(repr=False)
    stream: bool
    include_usage: bool


@dataclass(frozen=True, slots=True)
class Embedding:
    """An admitted request for embeddings, in the caller's order."""

    texts: tuple[str, ...] = field(repr=False)
    encoding: Literal["float", "base64"]


def read_chat(body: bytes, model: BuiltInModel) -> Generation:
    """Read a chat completion request or raise Fault(INVALID, UNSUPPORTED or NOT_FOUND)."""
    wire = _decode(body, _Chat, model)
    limits = {limit for limit in (wire.max_tokens, wire.max_completion_tokens) if limit is not None}
    if len(limits) > 1:
        raise Fault(
            FaultKind.INVALID, "'max_tokens' and 'max_completion_tokens' disagree.", target="max_completion_tokens"
        )
    prompt: dict[str, Any] = {
        "messages": [_message(message, f"messages[{i}]") for i, message in enumerate(wire.messages)]
    }
    _require_plausible(sum(len(message["content"]) for message in prompt["messages"]), model, "messages")
    if wire.response_format is not None:
        prompt |= _format(wire.response_format)
    return _generation("chat", wire, prompt, limits.pop() if limits else model.default_answer_tokens, model)


def read_completion(body: bytes, model: BuiltInModel) -> Generation:
    """Read a completion request or raise Fault(INVALID, UNSUPPORTED or NOT_FOUND)."""
    wire = _decode(body, _Completion, model)
    prompt = wire.prompt
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if isinstance(prompt, list) and prompt and all(isinstance(item, str) for item in prompt):
        raise Fault(FaultKind.UNSUPPORTED, "The built-in model takes one prompt per request.", target="prompt")
    if not isinstance(prompt, str):
        raise Fault(
            FaultKind.INVALID, "'prompt' must be a string; the built-in model takes no token arrays.", target="prompt"
        )
    if not prompt:
        raise Fault(FaultKind.INVALID, "'prompt' is empty.", target="prompt")
    _require_plausible(len(prompt), model, "prompt")
    return _generation("completion", wire, {"prompt": prompt}, wire.max_tokens or 16, model)  # 16: the API's default


def read_embeddings(body: bytes, model: BuiltInModel) -> Embedding:
    """Read an embeddings request or raise Fault(INVALID, UNSUPPORTED or NOT_FOUND). Token limits are the embedder's to check."""
    wire = _decode(body, _Embeddings, model)
    if wire.dimensions not in {None, model.dimensions}:
        raise Fault(
            FaultKind.UNSUPPORTED,
            f"{model.name} gives {model.dimensions} dimensions and no others.",
            target="dimensions",
        )
    texts = [wire.input] if isinstance(wire.input, str) else wire.input
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise Fault(
            FaultKind.INVALID,
            "'input' must be a string or a list of strings: this model has its own tokenizer, so arrays of another model's tokens "
            "would mean something else.",
            target="input",
        )
    if len(texts) > MAX_INPUTS:
        raise Fault(
            FaultKind.INVALID, f"'input' has {len(texts)} texts; at most {MAX_INPUTS} are taken.", target="input"
        )
    if not all(texts):
        raise Fault(FaultKind.INVALID, "'input' contains an empty string.", target="input")
    for i, text in enumerate(texts):
        _require_plausible(len(text), model, f"input[{i}]")
    return Embedding(texts=tuple(texts), encoding=wire.encoding_format)


def _require_plausible(characters: int, model: BuiltInModel, target: str) -> None:
    if characters > model.context_tokens * MAX_CHARACTERS_PER_TOKEN:
        raise Fault(
            FaultKind.INVALID,
            f"This model's maximum context length is {model.context_tokens} tokens; a text of {characters} characters cannot fit.",
            code="context_length_exceeded",
            target=target,
        )


_W = TypeVar("_W", _Chat, _Completion, _Embeddings)


def _decode(body: bytes, type_: type[_W], model: BuiltInModel) -> _W:
    try:
        fields = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Fault(FaultKind.INVALID, "The body is not a JSON object.", code="invalid_json") from None
    for name in _HARMLESS & fields.keys():
        del fields[name]
    for name in _NEUTRAL.keys() & fields.keys():
        neutral, why = _NEUTRAL[name]
        value = fields.pop(name)
        if not any(value == asked and type(value) is type(asked) for asked in neutral):
            raise Fault(
                FaultKind.UNSUPPORTED,
                f"The built-in model does not support '{name}' with this value. {why}",
                target=name,
            )
    try:
        wire = msgspec.convert(fields, type_)
    except msgspec.ValidationError as error:
        raise _misfit(str(error)) from None
    if wire.model not in {None, model.name}:
        raise Fault(
            FaultKind.NOT_FOUND,
            f"This engine serves the model {model.name} only.",
            code="model_not_found",
            target="model",
        )
    return wire


def _misfit(message: str) -> Fault:
    """Turn msgspec's sentence, which names types and places but no values, into a fault with the place as `param`."""
    what, _, where = message.partition(" - at ")
    path = re.sub(r"^`\$\.?|`$", "", where)
    unknown = re.search(r"unknown field `([^`]{1,60})", what)
    if unknown:
        path = f"{path}.{unknown[1]}".lstrip(".")
        return Fault(FaultKind.UNSUPPORTED, f"The built-in model does not know the field '{path}'.", target=path)
    missing = re.search(r"missing required field `([^`]+)`", what)
    if missing:
        path = f"{path}.{missing[1]}".lstrip(".")
        return Fault(FaultKind.INVALID, f"'{path}' is required.", target=path)
    return Fault(FaultKind.INVALID, f"{what} at '{path}'." if path else f"{what}.", target=path or None)


def _message(message: _Message, at: str) -> dict[str, str]:
    if message.role in {"tool", "function"}:
        raise Fault(
            FaultKind.UNSUPPORTED,
            "The built-in model cannot call tools, so it takes no results of them.",
            target=f"{at}.role",
        )
    if message.content is None:
        raise Fault(FaultKind.INVALID, "A message needs text.", target=f"{at}.content")
    if isinstance(message.content, str):
        text = message.content
    else:
        text = "".join(_part(part, f"{at}.content[{i}]") for i, part in enumerate(message.content))
    if any(token in text for token in _CONTROL):
        raise Fault(
            FaultKind.INVALID,
            f"A message contains one of the model's control tokens ({', '.join(_CONTROL)}), which would end it and begin another.",
            target=f"{at}.content",
        )
    return {"role": "system" if message.role == "developer" else message.role, "content": text}


def _part(part: dict[str, Any], at: str) -> str:
    kind = part.get("type")
    if kind != "text":
        shown = kind[:40] if isinstance(kind, str) else "unnamed"
        raise Fault(
            FaultKind.UNSUPPORTED,
            f"The built-in model reads text only, not content of type '{shown}'.",
            target=f"{at}.type",
        )
    text = part.get("text")
    if not isinstance(text, str) or part.keys() - {"type", "text"}:
        raise Fault(FaultKind.INVALID, "A text part has a 'text' that is a string, and nothing else.", target=at)
    return text


def _format(wanted: dict[str, Any]) -> dict[str, Any]:
    match wanted:
        case {"type": "text", **rest} if not rest:
            return {}
        case {"type": "json_object", **rest} if not rest:
            return {"response_format": {"type": "json_object"}}
        case {"type": "json_schema", "json_schema": {"schema": schema}, **rest} if not rest:
            kept = bounded(schema, "response_format.json_schema.schema")
            return {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": kept}}}
    raise Fault(
        FaultKind.INVALID,
        '\'response_format\' must be {"type": "text"}, {"type": "json_object"} or a json_schema with a \'schema\'.',
        target="response_format",
    )


def _generation(
    operation: Literal["chat", "completion"], wire: _Generate, prompt: dict[str, Any], limit: int, model: BuiltInModel
) -> Generation:
    if wire.stream_options is not None and not wire.stream:
        raise Fault(FaultKind.INVALID, "'stream_options' goes with 'stream': true only.", target="stream_options")
    stops = [wire.stop] if isinstance(wire.stop, str) else wire.stop or []
    if not all(0 < len(stop) <= 256 for stop in stops):
        raise Fault(FaultKind.INVALID, "Each of 'stop' must have 1 to 256 characters.", target="stop")
    sampling: dict[str, Any] = {
        # Source of the two defaults: the model card of SmolLM2-135M-Instruct; the API's own (1 and 1) make it ramble.
        "temperature": 0.2 if wire.temperature is None else wire.temperature,
        "top_p": 0.9 if wire.top_p is None else wire.top_p,
        # The engine would otherwise add cut-offs of its own that the caller did not ask for.
        "top_k": 0,
        "min_p": 0.0,
        "presence_penalty": wire.presence_penalty or 0.0,
        "frequency_penalty": wire.frequency_penalty or 0.0,
        "max_tokens": min(limit, model.context_tokens),
        "stop": stops,
    }
    if wire.seed is not None:
        sampling["seed"] = wire.seed % 0xFFFFFFFF  # 32 bits, and the largest value would mean "random"
    return Generation(
        operation=operation,
        prompt=prompt | sampling,
        stream=bool(wire.stream),
        include_usage=wire.stream_options is not None and wire.stream_options.include_usage,
    )
