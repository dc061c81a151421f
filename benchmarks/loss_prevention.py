"""What loss prevention costs: `python -m benchmarks.loss_prevention`. No server, one thread, the scan and the judgement alone.

Each figure is the best of several runs in CPU time of this process, so that neighbours on the machine are felt least. Bodies are JSON as clients
send it. "aim" is what docs/performance.md sets: 200 MB/s for 1 MB, and for 1 KB no more than 15 % of the full chain (about 120 microseconds).
"""

from __future__ import annotations

import base64
import json
import random
import time
from collections.abc import Callable
from typing import Final

from stockade.policy.uris.allowed import compile_allowed
from stockade.policy.uris.found import FoundUri
from stockade.policy.uris.loss_prevention import LossPrevention
from stockade.policy.uris.parse import parse
from stockade.policy.uris.scan import scan_json

SIZES: Final = {"1 KB": 1 << 10, "64 KB": 1 << 16, "1 MB": 1 << 20}
LINK: Final = "https://images.example.com/a/b.png?w=100"
SECONDS_PER_FIGURE: Final = 0.5
AIM_MB_S: Final = 200
AIM_SMALL_US: Final = 18

_WORDS: Final = (
    "the", "of", "and", "to", "in", "is", "that", "for", "it", "as", "with", "on", "be", "at", "by", "this", "from",
    "or", "have", "an", "not", "are", "but", "what", "all", "were", "when", "we", "there", "can", "said", "which",
    "do", "their", "if", "will", "each", "about", "how", "up", "out", "them", "then", "she", "many", "some", "so",
    "these",
)  # fmt: skip
_CODE: Final = '''\
def total(rows: list[dict[str, int]], *, of: str = "amount") -> int:
    """Add up one column: missing values count as nothing."""
    seen = {row["id"]: row for row in rows if row.get("id")}
    return sum(row.get(of, 0) // 1 for row in seen.values())  # whole units
'''


def prose(size: int, *, links: bool = False) -> str:
    """Return English-like text, with a link in about every 800 characters where links are wanted."""
    chosen = random.Random(1)
    parts: list[str] = []
    length = since = 0
    while length < size:
        words = " ".join(chosen.choice(_WORDS) for _ in range(chosen.randint(6, 18)))
        sentence = f"{words.capitalize()}.{chosen.choice([' ', ' ', chr(10)])}"
        if links and since > 800:
            sentence, since = f"See {LINK} for it. {sentence}", 0
        parts.append(sentence)
        length += len(sentence)
        since += len(sentence)
    if links and length < 2000:
        parts.insert(0, f"See {LINK} for it. ")
    return "".join(parts)[:size]


def chat(text: str) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": text}]}).encode()


def code(size: int, *, links: bool = False) -> bytes:
    """Return a chat that holds source code, where links are wanted with one in each function's comment."""
    text = _CODE.replace("whole units", f"see {LINK}") if links else _CODE
    return chat((text * (size // len(text) + 1))[:size])


def picture(size: int) -> bytes:
    data = base64.b64encode(random.Random(2).randbytes(size * 3 // 4)).decode()
    part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    return json.dumps({"messages": [{"role": "user", "content": [part]}]}).encode()


def rows(size: int, *, links: bool = False) -> bytes:
    """Return many small strings, where links are wanted with one in every tenth row."""
    found, length, number = [], 0, 0
    while length < size:
        value = LINK if links and number % 10 == 0 else "a value of some length"
        row = {"id": number, "name": f"row {number}", "tags": ["a", "bb", "ccc"], "value": value}
        found.append(row)
        length += len(json.dumps(row, separators=(",", ":"))) + 1
        number += 1
    return json.dumps(found, separators=(",", ":")).encode()


BODIES: Final[dict[str, Callable[[int], bytes]]] = {
    "prose": lambda size: chat(prose(size)),
    "prose with links": lambda size: chat(prose(size, links=True)),
    "code": code,
    "code with links": lambda size: code(size, links=True),
    "base64 image": picture,
    "small strings": rows,
    "small strings with links": lambda size: rows(size, links=True),
}


def best(call: Callable[[], object], seconds: float = SECONDS_PER_FIGURE) -> float:
    """Return the least CPU seconds that one call took."""
    began = time.process_time()
    call()
    times = max(1, int(0.005 / max(time.process_time() - began, 1e-7)))
    least, until = float("inf"), time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.process_time()
        for _ in range(times):
            call()
        least = min(least, (time.process_time() - began) / times)
    return least


def main() -> None:
    dlp = LossPrevention(compile_allowed(["images.example.com", *(f"h{number}.example" for number in range(999))]))

    def looked_at(body: bytes) -> int:
        found = scan_json(body)
        assert all(dlp.refuse(uri) is None for uri in found)
        return len(found)

    print(f"{'body':26}{'size':>8}{'found':>7}{'us':>11}{'MB/s':>8}  aim")
    for name, make in BODIES.items():
        for label, size in SIZES.items():
            body = make(size)
            seconds = best(lambda body=body: looked_at(body))  # type: ignore[misc]
            speed = len(body) / seconds / 1e6
            aim = ""
            if label == "1 MB":
                aim = "met" if speed >= AIM_MB_S else f"missed ({AIM_MB_S} MB/s)"
            elif label == "1 KB":
                aim = "met" if seconds * 1e6 <= AIM_SMALL_US else f"missed ({AIM_SMALL_US} us)"
            print(f"{name:26}{label:>8}{looked_at(body):7}{seconds * 1e6:11.1f}{speed:8.0f}  {aim}")
    found = FoundUri("x", LINK)
    for what, seconds in {
        "read one URI": best(lambda: parse(LINK)),
        "judge one URI, 1,000 entries": best(lambda: dlp.refuse(found)),
    }.items():
        print(f"{what:41}{seconds * 1e6:11.2f}")


if __name__ == "__main__":
    main()
