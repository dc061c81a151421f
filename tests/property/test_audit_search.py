"""What the index finds is what reading the whole log would find: same records, same order, whatever was added, pruned and asked between."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from stockade.audit import index
from stockade.audit.criteria import Wanted, read_record
from stockade.audit.search import search
from stockade.kernel.record import AuditRecord
from tests.factories.memory_log import MemoryLog

SUB = "/subscriptions/11111111-1111-4111-8111-111111111111"
RESOURCES = (
    "",
    SUB,
    f"{SUB}/resourceGroups/RG",
    f"{SUB}/resourceGroups/rg/providers/X.Y/z/a",
    f"{SUB}/resourceGroups/rg2",
)
WHO = ("", "p1", "P1", "p2", "Ärger")
OPERATIONS = ("", "X.Y/z/write", "X.Y/z/read", "X.Y/z2/write", "Chat_Create", "GET")
OUTCOMES = ("", "success", "failed:Invalid", "failed:Internal")
IDS = ("i1", "I2", "i3")
times = st.floats(0, 50, allow_nan=False)

records = st.builds(
    AuditRecord,
    time=times,
    id=st.sampled_from(IDS),
    category=st.sampled_from(("Audit", "RequestResponse")),
    phase=st.sampled_from(("intent", "outcome", "decision")),
    operation=st.sampled_from(OPERATIONS),
    resource=st.sampled_from(RESOURCES),
    principal=st.sampled_from(WHO),
    credential=st.sampled_from(("token", "Key1")),
    decision=st.sampled_from(("allow", "deny", "")),
    status=st.sampled_from((0, 200, 403, 503)),
    outcome=st.sampled_from(OUTCOMES),
    correlation=st.sampled_from(("", "i1", "c9")),
)
CRITERIA: dict[str, st.SearchStrategy[Any]] = {
    "resource": st.sampled_from((*RESOURCES, f"{SUB}/RESOURCEgroups/rg/")),
    "who": st.sampled_from((*WHO, "key1")),
    "operation": st.sampled_from((*OPERATIONS, "x.y/*", "*", "x.y/z/*")),
    "outcome": st.sampled_from((*OUTCOMES, "failed*")),
    "decision": st.sampled_from(("allow", "deny")),
    "category": st.sampled_from(("Audit", "RequestResponse")),
    "decision_id": st.sampled_from((*IDS, "i2")),
    "correlation": st.sampled_from(("i1", "C9", "i3")),
    "statuses": st.just((400, 599)),
    "since": times,
    "until": times,
    "activity": st.just(True),
}
# Few criteria at a time: of many there is rarely a record.
wanted = (
    st.lists(st.sampled_from(sorted(CRITERIA)), max_size=3, unique=True)
    .flatmap(lambda names: st.fixed_dictionaries({name: CRITERIA[name] for name in names}))
    .map(lambda chosen: Wanted(**chosen))
)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(records, min_size=5, max_size=40),
    st.lists(records | st.sampled_from([b"no record", b"[]", b'{"time":"x"}']), max_size=40),
    st.sampled_from((0.0, 0.0, 0.3, 0.9, 1.0)),
    st.lists(wanted, min_size=1, max_size=8),
    st.integers(1, 7),
)
def test_search_is_a_scan(before: list, after: list, pruned: float, asked: list[Wanted], limit: int) -> None:
    log = MemoryLog("log", before)
    with tempfile.TemporaryDirectory() as folder, _Small():
        search(log, Path(folder), Wanted())
        log.add(*after)
        log.prune(int(pruned * log.size))
        for one in asked:
            found, token = [], ""
            while True:
                page = search(log, Path(folder), one, limit=limit, token=token)
                assert len(page.found) <= limit
                found += [(record.index, record.line) for record in page.found]
                token = page.token
                if not token:
                    break
            scanned = [(place, line) for place, line in log.records(0) if one.fits(read_record(line))]
            assert found == scanned[::-1]


class _Small:
    """Batches, windows and lists of names so small that a few records cross them."""

    def __enter__(self) -> None:
        self.before = index.BATCH, index.WINDOW, index.BLOCK_BITS, index.MANY
        index.BATCH, index.WINDOW, index.BLOCK_BITS, index.MANY = 7, 11, 2, 1  # type: ignore[misc]

    def __exit__(self, *_: object) -> None:
        index.BATCH, index.WINDOW, index.BLOCK_BITS, index.MANY = self.before  # type: ignore[misc]
