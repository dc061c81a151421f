"""Input items of a response: as they come, as they are kept and listed, and as the messages of a chat.

Source: openai 3.54.0, `types/responses/response_input_item_param.py`, `response_input_content_param.py`; for the other side
`types/chat/chat_completion_message_param.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from stockade.kernel.faults import Fault, FaultKind
from stockade.services.openai.pages import new_id

MAX_ITEMS: Final = 1024
_ROLES: Final = ("user", "assistant", "system", "developer")


def messages_of(
    instructions: str | None, before: Sequence[Mapping[str, Any]], items: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the messages of a chat. before: the items of earlier responses, oldest first."""
    messages: list[dict[str, Any]] = []
    if instructions:
        messages.append({"role": "system", "content": instructions})
    for item in before:
        _say(messages, item, "previous_response_id")
    for at, item in enumerate(items):
        _say(messages, item, f"input[{at}]")
    return messages


def read_items(given: Any) -> list[dict[str, Any]]:
    """Return the input as items, each as it is listed later: with an id, and content in parts."""
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    if not isinstance(given, list):
        raise Fault(FaultKind.INVALID, "'input' must be a string or a list of items.", target="input")
    if len(given) > MAX_ITEMS:
        raise Fault(FaultKind.INVALID, f"'input' has more than {MAX_ITEMS} items.", target="input")
    return [_item(item, f"input[{at}]") for at, item in enumerate(given)]


def _item(item: Any, at: str) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise Fault(FaultKind.INVALID, f"'{at}' must be an object.", target=at)
    kind = item.get("type", "message" if "role" in item else None)
    match kind:
        case "message":
            return _message_item(item, at)
        case "function_call":
            return {
                "id": _given_id(item, "fc_"),
                "type": "function_call",
                "status": "completed",
                "call_id": required(item, "call_id", at),
                "name": required(item, "name", at),
                "arguments": required(item, "arguments", at),
            }
        case "function_call_output":
            output = item.get("output")
            if not isinstance(output, str):
                output = [
                    _part(part, "user", f"{at}.output[{n}]") for n, part in enumerate(_parts(output, f"{at}.output"))
                ]
            return {
                "id": _given_id(item, "fco_"),
                "type": "function_call_output",
                "status": "completed",
                "call_id": required(item, "call_id", at),
                "output": output,
            }
    raise unsupported(at, f"Input items of type '{str(kind)[:40]}' are not supported on this platform.")


def _message_item(item: dict[str, Any], at: str) -> dict[str, Any]:
    role, content = item.get("role"), item.get("content")
    if role not in _ROLES:
        raise Fault(FaultKind.INVALID, f"'{at}.role' can be {', '.join(_ROLES)}.", target=f"{at}.role")
    if isinstance(content, str):
        content = [{"type": "output_text" if role == "assistant" else "input_text", "text": content}]
    parts = [_part(part, role, f"{at}.content[{n}]") for n, part in enumerate(_parts(content, f"{at}.content"))]
    return {"id": _given_id(item, "msg_"), "type": "message", "status": "completed", "role": role, "content": parts}


def _part(part: Any, role: str, at: str) -> dict[str, Any]:
    if not isinstance(part, dict):
        raise Fault(FaultKind.INVALID, f"'{at}' must be an object.", target=at)
    kind = part.get("type")
    match role, kind:
        case "assistant", "output_text" | "input_text" | "text":
            return {"type": "output_text", "text": required(part, "text", at), "annotations": []}
        case "assistant", "refusal":
            return {"type": "refusal", "refusal": required(part, "refusal", at)}
        case "user" | "system" | "developer", "output_text" | "input_text" | "text":
            return {"type": "input_text", "text": required(part, "text", at)}
        case "user", "input_image":
            return _image(part, at)
        case "user", "input_file":
            return _file(part, at)
    raise unsupported(
        f"{at}.type", f"Content of type '{str(kind)[:40]}' is not supported in a message of role '{role}'."
    )


def _image(part: dict[str, Any], at: str) -> dict[str, Any]:
    if part.get("file_id") is not None:
        raise unsupported(f"{at}.file_id", "Images are named by 'image_url' here, a 'data:' URI among them.")
    detail = part.get("detail") or "auto"
    if detail not in ("auto", "low", "high", "original"):
        raise Fault(FaultKind.INVALID, f"'{at}.detail' can be auto, low, high or original.", target=f"{at}.detail")
    return {"type": "input_image", "image_url": required(part, "image_url", at), "detail": detail}


def _file(part: dict[str, Any], at: str) -> dict[str, Any]:
    for named in ("file_id", "file_url"):
        if part.get(named) is not None:
            raise unsupported(f"{at}.{named}", "Files are given whole here, in 'file_data'.")
    name = part.get("filename") or "file"
    if not isinstance(name, str):
        raise Fault(FaultKind.INVALID, f"'{at}.filename' must be a string.", target=f"{at}.filename")
    return {"type": "input_file", "file_data": required(part, "file_data", at), "filename": name}


def _say(messages: list[dict[str, Any]], item: Mapping[str, Any], at: str) -> None:
    match item.get("type"):
        case "message":
            messages.append(
                {"role": item["role"], "content": _content(item["content"], assistant=item["role"] == "assistant")}
            )
        case "function_call":
            call = {"id": item["call_id"], "type": "function"}
            call |= {"function": {"name": item["name"], "arguments": item["arguments"]}}
            if not (messages and messages[-1]["role"] == "assistant"):
                messages.append({"role": "assistant", "content": None})
            messages[-1].setdefault("tool_calls", []).append(call)
        case "function_call_output":
            output = item["output"]
            said = output if isinstance(output, str) else _content(output, assistant=False)
            messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": said})
        case kind:
            raise unsupported(at, f"Items of type '{str(kind)[:40]}' cannot be gone on from.")


def _content(parts: Sequence[Mapping[str, Any]], *, assistant: bool) -> str | list[dict[str, Any]]:
    """Return what a message says: as one text where it is no more than that, which every engine understands."""
    if assistant:
        return "".join(part.get("text") or part.get("refusal") or "" for part in parts)
    if len(parts) == 1 and parts[0]["type"] == "input_text":
        return str(parts[0]["text"])
    said: list[dict[str, Any]] = []
    for part in parts:
        match part["type"]:
            case "input_image":
                image = {"url": part["image_url"], "detail": part["detail"]}
                said.append({"type": "image_url", "image_url": image})
            case "input_file":
                said.append({"type": "file", "file": {"file_data": part["file_data"], "filename": part["filename"]}})
            case _:
                said.append({"type": "text", "text": part["text"]})
    return said


def required(holder: Mapping[str, Any], name: str, at: str) -> str:
    """Return a member that has to be a text."""
    found = holder.get(name)
    if not isinstance(found, str):
        raise Fault(FaultKind.INVALID, f"'{at}.{name}' must be a string.", target=f"{at}.{name}")
    return found


def unsupported(target: str, message: str) -> Fault:
    """Return the fault of what OpenAI has and this platform has not."""
    return Fault(FaultKind.UNSUPPORTED, message, code="unsupported_parameter", target=target)


def _given_id(item: Mapping[str, Any], prefix: str) -> str:
    given = item.get("id")
    return given if isinstance(given, str) and 0 < len(given) <= 80 else new_id(prefix)


def _parts(content: Any, at: str) -> list[Any]:
    if not isinstance(content, list):
        raise Fault(FaultKind.INVALID, f"'{at}' must be a string or a list.", target=at)
    if len(content) > MAX_ITEMS:
        raise Fault(FaultKind.INVALID, f"'{at}' has more than {MAX_ITEMS} parts.", target=at)
    return content
