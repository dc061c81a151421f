"""Random ids."""

from __future__ import annotations

import uuid

from stockade.kernel.ids import new_guid


def test_id_is_a_version_4_guid_and_new_each_time() -> None:
    ids = [new_guid() for _ in range(2000)]
    assert len(set(ids)) == 2000
    for text in ids:
        parsed = uuid.UUID(text)
        assert (str(parsed), parsed.version, parsed.variant) == (text, 4, uuid.RFC_4122)
