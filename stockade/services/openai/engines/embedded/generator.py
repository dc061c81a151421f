"""SmolLM2 through xllamacpp: text out of a prompt, piece by piece, cancellable at any of them.

xllamacpp's `Server` always opens an HTTP listener: by default on TCP, without a key, with CORS for every origin. Ours is bound to a UNIX
socket in a folder that exists only while the model loads; afterwards it has no name and nobody can reach it. All calls are made in-process.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import tempfile
import threading
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import xllamacpp

from stockade.kernel.faults import Fault, FaultKind

from .admission import Admission
from .catalogue import BuiltInModel
from .engine import Accepted, Finished, Piece, Text
from .model_files import CannotStart
from .replies_wire import FinishReason, Usage
from .requests_wire import Generation

SLOTS = 2
"""Requests decoded together. Each has the whole context to itself, and the cache for it is allocated at the start."""

_BATCH_TOKENS = 128
"""Prompt tokens read between two looks at whether the caller is still there: about a second on one slow core."""


class Generator:
    """A loaded text model. Loading blocks for about a second."""

    def __init__(self, model: BuiltInModel, weights: Path, threads: int) -> None:
        self._server = _load(model, weights, threads)
        self._admission = Admission(running=SLOTS, waiting=8, patience_s=30)
        self._workers = ThreadPoolExecutor(SLOTS, thread_name_prefix="generate")

    async def generate(self, request: Generation) -> AsyncGenerator[Piece, None]:
        await self._admission.enter()
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[Piece | Exception | None] = asyncio.Queue()
        answer = _Answer(lambda piece: loop.call_soon_threadsafe(pieces.put_nowait, piece))
        work = loop.run_in_executor(self._workers, self._run, request, answer)
        work.add_done_callback(lambda _: self._admission.leave())
        try:
            while (piece := await pieces.get()) is not None:
                if isinstance(piece, Exception):
                    raise piece
                yield piece
        finally:
            answer.cancelled.set()

    def close(self) -> None:
        self._workers.shutdown(wait=True, cancel_futures=True)
        del self._server

    def _run(self, request: Generation, answer: _Answer) -> None:
        order = {
            **request.prompt,
            # Streaming with progress, whatever the caller wants: each event is a moment at which the work can be called off.
            "stream": True,
            "stream_options": {"include_usage": True},
            "return_progress": True,
            # Requests of different accounts meet in this process: none may be faster because another had the same prompt.
            "cache_prompt": False,
        }
        call = self._server.handle_chat_completions if request.operation == "chat" else self._server.handle_completions
        try:
            call(json.dumps(order), answer.take)
        except Exception:  # noqa: BLE001 - whatever the native code raises on a request means that it did not take it
            answer.end(Fault(FaultKind.INVALID, "The built-in model could not read this request."))
        else:
            answer.end(None)


class _Answer:
    """Receives the engine's events on a worker thread and hands them on; its return value tells the engine whether to stop."""

    def __init__(self, emit: Any) -> None:
        self.cancelled = threading.Event()
        self._emit = emit
        self._reason: FinishReason | None = None
        self._usage: Usage | None = None
        self._failed: Fault | None = None

    def take(self, raw_event: str) -> bool:
        """Handle one event; True stops the engine. An exception here would be swallowed by the caller and the engine would go on."""
        try:
            self._handle(json.loads(raw_event))
        except Fault as fault:
            self._failed = fault
        except Exception:  # noqa: BLE001 - see above
            self._failed = _broken()
        return self._failed is not None or self.cancelled.is_set()

    def end(self, fault: Fault | None) -> None:
        """Emit the last piece or the fault, then None."""
        fault = self._failed or fault
        if fault is None and not self.cancelled.is_set() and (self._reason is None or self._usage is None):
            fault = _broken()
        try:
            if fault is not None:
                self._emit(fault)
            elif self._reason is not None and self._usage is not None:
                self._emit(Finished(self._reason, self._usage))
            self._emit(None)
        except RuntimeError:
            # The event loop has been closed: nobody is left to tell.
            return

    def _handle(self, event: dict[str, Any]) -> None:
        if "error" in event:
            raise _refused(event["error"])
        if "prompt_progress" in event:
            self._emit(Accepted())
            return
        for choice in event["choices"]:
            text = choice["text"] if "text" in choice else choice["delta"].get("content")
            if text:
                self._emit(Text(text))
            if choice["finish_reason"] is not None:
                self._reason = "length" if choice["finish_reason"] == "length" else "stop"
        if "usage" in event:
            self._usage = Usage(event["usage"]["prompt_tokens"], event["usage"]["completion_tokens"])


def _refused(error: dict[str, Any]) -> Fault:
    if error.get("type") == "exceed_context_size_error":
        return Fault(
            FaultKind.INVALID,
            f"This model's maximum context length is {error['n_ctx']} tokens, and the prompt has {error['n_prompt_tokens']}.",
            code="context_length_exceeded",
            target="messages",
        )
    if error.get("code") == 400:
        return Fault(FaultKind.INVALID, "The built-in model could not read this request.")
    return _broken()


def _broken() -> Fault:
    return Fault(FaultKind.INTERNAL, "The built-in model broke off.")


def _load(model: BuiltInModel, weights: Path, threads: int) -> Any:
    params = xllamacpp.CommonParams()
    params.model.path = str(weights)
    params.model_alias = {model.name}
    params.offline = True
    params.verbosity = 0  # 1 logs a line per refused request, 3 and above parts of prompts
    # The context is divided among the slots.
    params.n_parallel = SLOTS
    params.n_ctx = SLOTS * model.context_tokens
    params.n_batch = params.n_ubatch = _BATCH_TOKENS
    params.fit_params = False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.n_threads_http = 1
    # Nothing of one request is kept for the next. The default would keep up to 8 GiB of prompts in memory.
    params.cache_prompt = False
    params.cache_ram_mib = 0
    params.cache_idle_slots = False
    params.n_ctx_checkpoints = 0
    # An answer begins anew; it does not continue a last message that the caller wrote in the assistant's name.
    params.prefill_assistant = False
    params.reasoning_format = xllamacpp.common_reasoning_format.COMMON_REASONING_FORMAT_NONE
    # The listener nobody needs, as closed as it can be made for the moment it has a name.
    params.api_keys = [secrets.token_hex(32)]
    params.endpoint_slots = params.endpoint_props = params.endpoint_metrics = params.ui = False
    params.cors_origins = "http://localhost"
    params.cors_credentials = False
    with tempfile.TemporaryDirectory(prefix="stockade-") as folder:
        params.hostnames = [str(Path(folder) / "unused.sock")]
        server = xllamacpp.Server(params)
        if not server.listening_address.startswith("unix://"):
            raise CannotStart(f"xllamacpp opened a network listener at {server.listening_address}; refusing to serve")
    return server
