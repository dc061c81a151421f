"""What every test stands on: the user's own settings kept out, hypothesis profiles, and programs that may be absent."""

from __future__ import annotations

import os
from collections import Counter

import hypothesis
import pytest

from tests import outside

pytest_plugins = ["tests.live", "tests.factories.databases"]

_MISSING = "is not installed:"
PRIVATE = (
    "STOCKADE_",
    "AZURE_",
    "OPENAI_",
    "ARM_",
    "IDENTITY_",
    "MSI_",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "SSL_CERT_",
)
"""Variables by which a developer's shell could steer a client or a server under test."""

# No deadline: this may be a slow or a shared machine, and time is not what a property is about.
hypothesis.settings.register_profile("fast", deadline=None, max_examples=100)
hypothesis.settings.register_profile("deep", deadline=None, max_examples=5000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))


def pytest_configure() -> None:
    for name in [name for name in os.environ if name.startswith(PRIVATE)]:
        del os.environ[name]


def pytest_runtest_setup(item: pytest.Item) -> None:
    for name, program in outside.PROGRAMS.items():
        if item.get_closest_marker(name) is None or program.find() is not None:
            continue
        if outside.required():
            pytest.fail(f"{name} is not installed, and CI is set: {program.how}", pytrace=False)
        pytest.skip(f"{name} {_MISSING} {program.how}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    # From the reports, because the tests may have run in other processes.
    skipped = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", [])]
    not_run = Counter(name for text in skipped for name in outside.PROGRAMS if f"Skipped: {name} {_MISSING}" in text)
    for name, count in not_run.items():
        terminalreporter.write_line(
            f"NOT PROVEN: {count} tests need {name} and did not run; {outside.PROGRAMS[name].how}",
            yellow=True,
            bold=True,
        )
