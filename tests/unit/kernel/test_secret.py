"""A Secret leaks by no ordinary way of printing, comparing or storing things."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import pickle
import traceback
from typing import Any

import msgspec
import pytest

from stockade.kernel.secret import Secret

VALUE = "sk-hidden-value"


@dataclasses.dataclass
class Holder:
    secret: Secret


def test_no_text_form_shows_the_value() -> None:
    secret = Secret(VALUE)
    shown = [
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret:>50}",
        f"{secret!r}",
        "%s %r" % (secret, secret),  # noqa: UP031
        format(secret, "s"),
    ]
    shown += [repr(Holder(secret)), repr([secret]), repr({"a": secret}), str(dir(secret)), repr(Secret.__slots__)]
    assert not any(VALUE in text for text in shown)


def test_no_log_line_and_no_traceback_shows_the_value(caplog: pytest.LogCaptureFixture) -> None:
    secret = Secret(VALUE)
    try:
        raise ValueError(secret)
    except ValueError as failure:
        told = "".join(traceback.TracebackException.from_exception(failure, capture_locals=True).format())
        logging.getLogger("x").exception("failed with %s", secret, extra={"secret": secret})
    assert VALUE not in told + caplog.text + repr(caplog.records[0].__dict__["secret"])


@pytest.mark.parametrize(
    "use",
    [
        lambda s: s == Secret(VALUE),
        lambda s: s != VALUE,
        lambda s: VALUE.encode() == s,
        lambda s: s in [Secret(VALUE)],  # noqa: FURB171
        hash,
        lambda s: {s},
        pickle.dumps,
        lambda s: pickle.dumps(s, protocol=0),
        copy.copy,
        copy.deepcopy,
        json.dumps,
        msgspec.json.encode,
        msgspec.to_builtins,
        vars,
        bytes,
        iter,
        lambda s: s + b"",
        lambda s: dataclasses.asdict(Holder(s)),
    ],
)
def test_comparing_hashing_and_serialising_are_errors_that_do_not_show_it(use: Any) -> None:
    with pytest.raises((TypeError, AttributeError)) as caught:
        use(Secret(VALUE))
    assert VALUE not in str(caught.value)


def test_attribute_cannot_be_added_to_it() -> None:
    with pytest.raises(AttributeError):
        Secret(VALUE).note = 1  # type: ignore[attr-defined]


def test_it_is_read_by_name_and_compared_by_matches() -> None:
    secret = Secret(VALUE)
    assert (secret.reveal(), secret.reveal_text(), len(secret)) == (VALUE.encode(), VALUE, len(VALUE))
    assert secret.matches(VALUE) and secret.matches(VALUE.encode())
    assert not any(secret.matches(wrong) for wrong in ("", VALUE[:-1], VALUE + "x", VALUE.upper(), b"\x00"))


def test_caller_who_keeps_the_buffer_cannot_change_it() -> None:
    buffer = bytearray(b"abc")
    secret = Secret(buffer)
    buffer[0] = 0
    assert secret.reveal() == b"abc"
