import pytest

from stockade.services.openai.engines.embedded.catalogue import MINILM, MODELS, SMOLLM2


def test_the_models_of_the_first_start_are_here_under_their_names():
    assert MODELS == {"smollm2-135m-instruct": SMOLLM2, "all-minilm-l6-v2": MINILM}
    assert SMOLLM2.capabilities == {"chatCompletion", "completion"}
    assert MINILM.capabilities == {"embeddings"}
    assert MINILM.dimensions == 384


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_every_label_says_that_the_model_is_small_and_not_for_real_work(model):
    assert model.label.startswith("built-in ")
    assert "not for real" in model.label


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_every_file_is_pinned_by_hash_and_version(model):
    for file in model.files:
        assert len(bytes.fromhex(file.sha256)) == 32
        assert file.distribution is None or "==" in file.distribution
