"""A PKCS#11 token of SoftHSM2, one for each test process: its library reads where tokens are only once."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from stockade.settings import Provider
from tests.outside import program

LABEL = "stockade-tests"
PIN = "correct-horse-7413"


@cache
def softhsm_place() -> Provider:
    """Make the token, in a folder of its own, and return the settings that name it. Its PIN is in the environment variable they say."""
    folder = Path(tempfile.mkdtemp(prefix="softhsm-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "tokens").mkdir()
    configuration = folder / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {folder}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n")
    os.environ["SOFTHSM2_CONF"] = str(configuration)
    os.environ["TESTS_SOFTHSM_PIN"] = PIN
    make = ["softhsm2-util", "--init-token", "--free", "--label", LABEL, "--so-pin", "so-pin-95123", "--pin", PIN]
    subprocess.run(make, check=True, capture_output=True, timeout=30)
    return Provider(
        name="hsm",
        type="pkcs11",
        url=str(program("softhsm")),
        place=LABEL,
        credential_env="TESTS_SOFTHSM_PIN",
        timeout_s=20.0,
    )
