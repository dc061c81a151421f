"""Every way to fail has an exit code, and none of them is success."""

from stockade.cli import outcome
from stockade.cli.root import EPILOG
from stockade.kernel.faults import FaultKind


def test_the_table_is_total() -> None:
    assert set(outcome.EXIT_CODES) == set(FaultKind)
    assert outcome.OK not in outcome.EXIT_CODES.values()


def test_help_names_every_code() -> None:
    codes = {
        outcome.OK,
        outcome.USAGE,
        outcome.NOT_RUNNING,
        *outcome.EXIT_CODES.values(),
        *outcome.EXIT_CODES_OF_CODES.values(),
    }
    assert all(f" {code} " in EPILOG for code in codes)
