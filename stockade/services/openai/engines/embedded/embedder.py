"""MiniLM through ONNX Runtime: one vector of length 1 per text.

Texts are run one at a time: no padding is paid for, memory does not depend on the number of texts, and the work can be called off between
any two. (A batch would give the same vectors.)
Source of the pooling (mean over tokens, then L2): the model card of sentence-transformers/all-MiniLM-L6-v2.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from stockade.kernel.faults import Fault, FaultKind

from .admission import Admission
from .catalogue import BuiltInModel

MAX_TOKENS_PER_REQUEST = 300_000
"""Over all inputs of a request. Source: API reference of embeddings/create."""

_WORKERS = 2


class Embedder:
    """A loaded embedding model. Loading blocks for about half a second."""

    def __init__(self, model: BuiltInModel, weights: Path, tokenizer: Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # A waiting thread sleeps: on a busy machine spinning takes the time from those who work.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._model = model
        self._session = onnxruntime.InferenceSession(weights.read_bytes(), options, providers=["CPUExecutionProvider"])
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        # The file cuts and pads at 128 tokens; we refuse what is too long, and pad nothing.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        # "[SEP]" in a caller's text is five characters, not the end of the sentence.
        self._tokenizer.encode_special_tokens = True
        self._admission = Admission(running=_WORKERS, waiting=32, patience_s=30)
        self._workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="embed")

    async def embed(self, texts: Sequence[str]) -> tuple[list[bytes], int]:
        await self._admission.enter()
        cancelled = threading.Event()
        work = asyncio.get_running_loop().run_in_executor(self._workers, self._run, texts, cancelled)
        work.add_done_callback(self._ended)
        try:
            return await asyncio.shield(work)
        finally:
            cancelled.set()

    def close(self) -> None:
        self._workers.shutdown(wait=True, cancel_futures=True)

    def _ended(self, work: asyncio.Future[tuple[list[bytes], int]]) -> None:
        self._admission.leave()
        if not work.cancelled():
            work.exception()  # seen: otherwise the loop reports it when the caller is gone and nobody else looks

    def _run(self, texts: Sequence[str], cancelled: threading.Event) -> tuple[list[bytes], int]:
        total = 0
        tokens: list[list[int]] = []
        for i, text in enumerate(texts):
            if cancelled.is_set():
                return [], 0
            ids = self._tokenizer.encode(text).ids
            if len(ids) > self._model.context_tokens:
                raise Fault(
                    FaultKind.INVALID,
                    f"This model's maximum context length is {self._model.context_tokens} tokens, and the input has {len(ids)}.",
                    code="context_length_exceeded",
                    target=f"input[{i}]",
                )
            total += len(ids)
            if total > MAX_TOKENS_PER_REQUEST:
                raise Fault(
                    FaultKind.INVALID,
                    f"The inputs have more than {MAX_TOKENS_PER_REQUEST} tokens together.",
                    target="input",
                )
            tokens.append(ids)
        vectors: list[bytes] = []
        for ids in tokens:
            if cancelled.is_set():
                break
            vectors.append(self._vector(ids))
        return vectors, total

    def _vector(self, ids: list[int]) -> bytes:
        row = np.array([ids], dtype=np.int64)
        feed = {"input_ids": row, "attention_mask": np.ones_like(row), "token_type_ids": np.zeros_like(row)}
        (states,) = self._session.run(["last_hidden_state"], feed)
        mean = states[0].mean(axis=0)
        return bytes((mean / np.linalg.norm(mean)).astype("<f4").tobytes())
