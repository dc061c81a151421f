"""What looking at a model's answer costs per streamed event: `python -m benchmarks.output_filter`.

CPU time of the filter alone, in one process, over what a chunk carries: one event, or twenty. Off is what an account without the control pays: a test
for None per request, and the loop that passes chunks on. The aim is the issue's: at most 10 µs per event.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import statistics
import sys
import time
from collections.abc import AsyncIterator, Sequence

from stockade.gateway.output.reply import OutputReview
from stockade.policy.uris.allowed import compile_allowed

LIMIT_US = 10.0
EVENTS = 2_000
_LIST = compile_allowed([f"host{number}.example" for number in range(999)] + ["good.example"])

# Cut as a tokenizer cuts: a word with the space before it, signs by themselves.
_TOKEN = re.compile(r" ?[A-Za-z]{1,8}|[0-9]{1,3}|\s+|[^\sA-Za-z0-9]{1,3}")
_PROSE = (
    'The harbour was quiet that morning, and nobody on the pier would have guessed what the day had in store. "We leave at noon", she said; '
    "it wasn't a question.\n\nHe nodded: there were 3 boats, 12 people and 1 map (torn). What else could they do? "
)
_LINKS = "Have a look at https://{host}/guide/start?page=2 or at [the manual](https://{host}/docs/manual.html) and ![it](https://{host}/a.png). "
TEXTS = {
    "prose": _PROSE,
    "prose, an allowed link in it": _PROSE * 3 + _LINKS.format(host="good.example"),
    "prose, a refused link in it": _PROSE * 3 + _LINKS.format(host="evil.example"),
    "allowed links": _LINKS.format(host="good.example"),
    "refused links": _LINKS.format(host="evil.example"),
}


def events(text: str, *, counting: bool = False) -> list[bytes]:
    """Return a stream of at least `EVENTS` events that say a text, one token each. counting: each tells its usage, so that no two are alike."""
    tokens: list[str] = []
    while len(tokens) < EVENTS:
        tokens += _TOKEN.findall(text)
    stream = []
    for number, token in enumerate(tokens):
        chunk = {
            "id": "chatcmpl-8f1c2b7a9d3e4f5061728394a5b6c7d8",
            "object": "chat.completion.chunk",
            "created": 1764000000,
            "model": "gpt-4o-mini",
            "system_fingerprint": "fp_44709d6fcb",
            "choices": [{"index": 0, "delta": {"content": token}, "logprobs": None, "finish_reason": None}],
            "usage": {"prompt_tokens": 20, "completion_tokens": number} if counting else None,
        }
        stream.append(b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n")
    return [*stream, b"data: [DONE]\n\n"]


def per_event_us(stream: Sequence[bytes], per_chunk: int, mode: str, rounds: int) -> float:
    """Return the microseconds of CPU per event, the least of the rounds: what the machine does besides only adds."""
    chunks = [b"".join(stream[at : at + per_chunk]) for at in range(0, len(stream), per_chunk)]

    async def engine() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    async def once() -> float:
        looking = OutputReview(_LIST, enforced=mode == "enforce")
        passing = engine() if mode == "off" else looking.stream(engine(), "text/event-stream")
        began = time.process_time()
        async for _ in passing:
            pass
        return (time.process_time() - began) / len(stream) * 1e6

    return min(asyncio.run(once()) for _ in range(rounds))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 when a row is over the limit and `--check` was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="how often each row is measured; the least counts")
    parser.add_argument(
        "--check", action="store_true", help=f"fail when looking adds more than {LIMIT_US:g} µs per event"
    )
    options = parser.parse_args(arguments)
    over = []
    added_all = []
    print(f"{'stream':42} {'chunk':>9} {'off':>7} {'report':>8} {'enforce':>8}   µs of CPU per event")
    streams = {name: events(text) for name, text in TEXTS.items()}
    streams["prose, every event with its own usage"] = events(_PROSE, counting=True)
    for name, stream in streams.items():
        for per_chunk in (1, 20):
            off, report, enforce = (
                per_event_us(stream, per_chunk, mode, options.rounds) for mode in ("off", "report", "enforce")
            )
            added = max(report, enforce) - off
            added_all.append(added)
            if added > LIMIT_US:
                over.append(name)
            print(f"{name:42} {per_chunk:>2} events {off:7.2f} {report:8.2f} {enforce:8.2f}", flush=True)
    print(
        f"Added per event: {statistics.median(added_all):.1f} µs in the median row, {max(added_all):.1f} µs in the worst."
    )
    if over:
        print(f"Over {LIMIT_US:g} µs: {', '.join(sorted(set(over)))}.")
    return 1 if over and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
