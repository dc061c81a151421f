"""What a request for a response says, and how it is said to a chat engine.

Everything that is understood is translated, and everything else is refused by name: an option that was dropped would look as if it had been heeded.
Source: openai 3.54.0, `types/responses/response_create_params.py`, `tool_param.py`; `types/chat/completion_create_params.py` for the other side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from stockade.kernel.faults import Fault, FaultKind
from stockade.services.openai.bodies import value
from stockade.services.openai.responses_items import MAX_ITEMS, messages_of, read_items, required, unsupported

MAX_METADATA: Final = 16
_UNSUPPORTED: Final[dict[str, tuple[Any, ...]]] = {
    "background": (None, False),
    "background_options": (None,),
    "context_management": (None, []),
    "conversation": (None,),
    "access_programs": (None,),
    "image": (None,),
    "max_tool_calls": (None,),
    "moderation": (None,),
    "prompt": (None,),
    "prompt_cache_options": (None, {}),
    "top_logprobs": (None, 0),
    "truncation": (None, "disabled"),
    "service_tier": (None, "auto", "default"),
}
"""Parameters of OpenAI's that mean nothing here, and the values that ask for nothing."""
_HARMLESS: Final = frozenset(
    {"prompt_cache_key", "prompt_cache_retention", "safety_identifier", "stream_options", "user"}
)
_READ: Final = frozenset(
    {"include", "input", "instructions", "max_output_tokens", "metadata", "model", "parallel_tool_calls", "previous_response_id"}
    | {"reasoning", "store", "stream", "temperature", "text", "tool_choice", "tools", "top_p"}
)  # fmt: skip
_NEVER_HERE: Final = frozenset(
    {"reasoning.encrypted_content", "file_search_call.results", "web_search_call.results", "web_search_call.action.sources"}
    | {"code_interpreter_call.outputs", "computer_call_output.output.image_url", "message.input_image.image_url"}
)  # fmt: skip
"""What `include` asks for and responses of this platform never have, or always have."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request for a response. items: the input as it is kept and listed, each with an id."""

    model: str
    instructions: str | None
    items: list[dict[str, Any]]
    previous: str | None
    store: bool
    stream: bool
    metadata: dict[str, str]
    tools: list[dict[str, Any]]
    tool_choice: Any
    parallel_tool_calls: bool
    temperature: float | None
    top_p: float | None
    max_output_tokens: int | None
    text: dict[str, Any]
    reasoning: dict[str, Any]


def read_wanted(members: Mapping[str, msgspec.Raw]) -> Wanted:
    """Read a request; Fault(INVALID) or Fault(UNSUPPORTED) that names the parameter."""
    for name in members:
        if name not in _READ and name not in _HARMLESS and name not in _UNSUPPORTED:
            raise Fault(
                FaultKind.INVALID, f"Unknown parameter: '{name[:60]}'.", code="unknown_parameter", target=name[:60]
            )
    document = {name: value(raw, name) for name, raw in members.items() if name not in _HARMLESS}
    for name, neutral in _UNSUPPORTED.items():
        if name in document and not any(document[name] is one or document[name] == one for one in neutral):
            raise unsupported(name, f"The parameter '{name}' is not supported on this platform.")
    _check_include(document.get("include"))
    tools = [_tool(tool, f"tools[{at}]") for at, tool in enumerate(_list(document, "tools"))]
    return Wanted(
        model=_text(document, "model") or "",
        instructions=_text(document, "instructions"),
        items=read_items(document.get("input")),
        previous=_text(document, "previous_response_id"),
        store=_flag(document, "store") is not False,
        stream=_flag(document, "stream") is True,
        metadata=read_metadata(document.get("metadata")),
        tools=tools,
        tool_choice=_tool_choice(document.get("tool_choice")),
        parallel_tool_calls=_flag(document, "parallel_tool_calls") is not False,
        temperature=_number(document, "temperature", 0, 2),
        top_p=_number(document, "top_p", 0, 1),
        max_output_tokens=_count(document, "max_output_tokens"),
        text=_text_config(document.get("text")),
        reasoning=_reasoning(document.get("reasoning")),
    )


def chat_members(wanted: Wanted, before: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the body of the chat completion that answers. before: the items of earlier responses, oldest first."""
    messages = messages_of(wanted.instructions, before, wanted.items)
    if not messages:
        raise Fault(FaultKind.INVALID, "The input is empty.", target="input")
    members: dict[str, Any] = {"messages": messages, "stream": wanted.stream}
    if wanted.stream:
        members["stream_options"] = {"include_usage": True}
    asked = {
        "temperature": wanted.temperature,
        "top_p": wanted.top_p,
        "max_completion_tokens": wanted.max_output_tokens,
        "response_format": _response_format(wanted.text["format"]),
        "verbosity": wanted.text.get("verbosity"),
        "reasoning_effort": wanted.reasoning.get("effort"),
    }
    members |= {name: said for name, said in asked.items() if said is not None}
    if wanted.tools:
        members["tools"] = [
            {"type": "function", "function": {name: said for name, said in tool.items() if name != "type"}}
            for tool in wanted.tools
        ]
        choice = wanted.tool_choice
        if isinstance(choice, dict):
            choice = {"type": "function", "function": {"name": choice["name"]}}
        members |= {"tool_choice": choice, "parallel_tool_calls": wanted.parallel_tool_calls}
    return members


def read_metadata(given: Any) -> dict[str, str]:
    """Return what callers attach: at most 16 pairs, names of up to 64 and values of up to 512 characters."""
    if given is None:
        return {}
    fits = isinstance(given, dict) and len(given) <= MAX_METADATA
    if not fits or not all(
        isinstance(said, str) and len(said) <= 512 and 0 < len(name) <= 64 for name, said in given.items()
    ):
        message = f"'metadata' holds at most {MAX_METADATA} pairs of texts, names of up to 64 and values of up to 512 characters."
        raise Fault(FaultKind.INVALID, message, target="metadata")
    return dict(given)


def _tool(tool: Any, at: str) -> dict[str, Any]:
    if not isinstance(tool, dict):
        raise Fault(FaultKind.INVALID, f"'{at}' must be an object.", target=at)
    if tool.get("type") != "function":
        kind = str(tool.get("type"))[:40]
        raise unsupported(
            f"{at}.type", f"Tools of type '{kind}' are not supported on this platform, only functions of your own."
        )
    read: dict[str, Any] = {"type": "function", "name": required(tool, "name", at)}
    for name, kinds in (("description", str), ("parameters", dict), ("strict", bool)):
        if tool.get(name) is not None:
            if not isinstance(tool[name], kinds):
                raise Fault(FaultKind.INVALID, f"'{at}.{name}' is of the wrong type.", target=f"{at}.{name}")
            read[name] = tool[name]
    return read


def _tool_choice(choice: Any) -> Any:
    if choice is None:
        return "auto"
    if choice in ("none", "auto", "required"):
        return choice
    if isinstance(choice, dict) and choice.get("type") == "function":
        return {"type": "function", "name": required(choice, "name", "tool_choice")}
    raise unsupported("tool_choice", "'tool_choice' can be 'none', 'auto', 'required' or a function.")


def _text_config(given: Any) -> dict[str, Any]:
    config = given if given is not None else {}
    if not isinstance(config, dict):
        raise Fault(FaultKind.INVALID, "'text' must be an object.", target="text")
    wanted = config.get("format") or {"type": "text"}
    if not isinstance(wanted, dict) or wanted.get("type") not in ("text", "json_object", "json_schema"):
        raise Fault(
            FaultKind.INVALID, "'text.format.type' can be text, json_object or json_schema.", target="text.format"
        )
    if wanted["type"] == "json_schema":
        required(wanted, "name", "text.format")
        if not isinstance(wanted.get("schema"), dict):
            raise Fault(FaultKind.INVALID, "'text.format.schema' must be an object.", target="text.format.schema")
    verbosity = config.get("verbosity")
    if verbosity not in (None, "low", "medium", "high"):
        raise Fault(FaultKind.INVALID, "'text.verbosity' can be low, medium or high.", target="text.verbosity")
    return {"format": wanted} if verbosity is None else {"format": wanted, "verbosity": verbosity}


def _response_format(wanted: Mapping[str, Any]) -> dict[str, Any] | None:
    match wanted["type"]:
        case "json_object":
            return {"type": "json_object"}
        case "json_schema":
            schema = {name: wanted[name] for name in ("name", "description", "schema", "strict") if name in wanted}
            return {"type": "json_schema", "json_schema": schema}
    return None


def _reasoning(given: Any) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, dict) or not isinstance(given.get("effort"), str | None):
        raise Fault(FaultKind.INVALID, "'reasoning' must be an object.", target="reasoning")
    for name, said in given.items():
        if name != "effort" and said is not None:
            raise unsupported(f"reasoning.{name[:40]}", "Of 'reasoning' only 'effort' is supported on this platform.")
    return {"effort": given["effort"]} if given.get("effort") is not None else {}


def _check_include(given: Any) -> None:
    if given is None:
        return
    if not isinstance(given, list):
        raise Fault(FaultKind.INVALID, "'include' must be a list.", target="include")
    for name in given:
        if not isinstance(name, str) or name not in _NEVER_HERE:
            raise unsupported("include", f"'{str(name)[:60]}' cannot be included on this platform.")


def _list(document: Mapping[str, Any], name: str) -> list[Any]:
    found = document.get(name)
    if found is None:
        return []
    if not isinstance(found, list) or len(found) > MAX_ITEMS:
        raise Fault(FaultKind.INVALID, f"'{name}' must be a list of at most {MAX_ITEMS}.", target=name)
    return found


def _text(document: Mapping[str, Any], name: str) -> str | None:
    found = document.get(name)
    if found is not None and not isinstance(found, str):
        raise Fault(FaultKind.INVALID, f"'{name}' must be a string.", target=name)
    return found


def _flag(document: Mapping[str, Any], name: str) -> bool | None:
    found = document.get(name)
    if found is not None and not isinstance(found, bool):
        raise Fault(FaultKind.INVALID, f"'{name}' must be true or false.", target=name)
    return found


def _number(document: Mapping[str, Any], name: str, least: float, most: float) -> float | None:
    found = document.get(name)
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int | float) or not least <= found <= most:
        raise Fault(FaultKind.INVALID, f"'{name}' must be a number from {least} to {most}.", target=name)
    return found


def _count(document: Mapping[str, Any], name: str) -> int | None:
    found = document.get(name)
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int) or not 0 < found < 10_000_000:
        raise Fault(FaultKind.INVALID, f"'{name}' must be a whole number above 0.", target=name)
    return found
