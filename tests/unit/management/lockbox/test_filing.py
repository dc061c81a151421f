"""Breaking the glass with the real key broker: off by default, two operators, the customer told and the record placed before the first byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from stockade.kernel.ids import new_guid
from stockade.policy.builtin_roles import SUPPORT_ENGINEER
from stockade.settings import Lockbox as Rules
from stockade.settings import Mail, Notices, Settings
from tests.factories.control_plane import S
from tests.factories.lockbox import Signer
from tests.factories.lockbox_arm import ACCOUNT, Lockbox
from tests.factories.lockbox_real import RealPlane

SECRET = b"what the customer keeps"


def test_the_record_is_in_the_customers_log_before_the_first_byte(tmp_path: Path) -> None:
    notices = Notices(mail=Mail(host="mail.example.com", sender="stockade@example.com"))
    settings = Settings(data_dir=tmp_path, lockbox=Rules(break_glass=True), notices=notices)
    plane = RealPlane(tmp_path, settings)
    box, second = Lockbox(plane), plane.principal("second", (SUPPORT_ENGINEER, S))
    box.grant_owner(box.alice)
    box.opt_in()
    box.protect()
    plane.keep(ACCOUNT, "file-1", SECRET)
    refused = box.send(new_guid(), breakGlass=True)
    assert refused.json()["error"]["code"] == "BreakGlassOff", "the statement has no clause"
    keys = Signer("op1", box.engineer.object_id), Signer("op2", second.object_id)
    operators: Any = [msgspec.to_builtins(one.approver) for one in keys]
    box.protect(approvers=[msgspec.to_builtins(box.key.approver)], breakGlass={"operators": operators, "threshold": 2})
    name = box.file(breakGlass=True)
    payload = box.to_sign(name)
    one = box.act(name, "breakGlass", **box.signed(payload, keys[0]))
    assert one.json()["properties"]["status"] == "Approving"
    assert plane.read(name, "/files/file-1", box.engineer).status_code == 409, "one operator alone opens nothing"
    two = box.act(name, "breakGlass", second, **box.signed(payload, keys[1]))
    assert two.json()["properties"]["status"] == "Approved", two.text
    assert {("created", "mailto:secops@example.com"), ("autoApproved", "mailto:secops@example.com")} <= set(
        box.told(name)
    )
    placed = [one.operation for one in plane.audit.placed]
    assert "Stockade.Lockbox/content/read" not in placed
    assert plane.read(name, "/files/file-1", box.engineer).content == SECRET
    placed = [one.operation for one in plane.audit.placed]
    broken = placed.index("Stockade.Lockbox/requests/breakGlass/action")
    granted = placed.index("Stockade.Lockbox/access/breakGlass")
    assert broken < granted < placed.index("Stockade.Lockbox/content/read")
    plane.close()
