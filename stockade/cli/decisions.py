"""`stockade explain`, `what-if` and `report`: why a request was answered as it was, what a change would do, what controls would refuse."""

from __future__ import annotations

import json
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlencode

import typer

from stockade.cli.account import OutputFormat
from stockade.cli.arm import Arm, connect
from stockade.cli.context import DataDir, out, print_columns, running_settings
from stockade.kernel.faults import Fault, FaultKind

KEPT_WITHIN_S: Final = 3.0
"""Workers write their decisions twice a second, so the newest may still be on its way."""
POLL_S: Final = 0.3
ASSIGNMENTS_VERSION: Final = "2022-04-01"
MAX_PATCH: Final = 4 * 1024 * 1024
_MARKS: Final[Mapping[str, str]] = {"passed": "+", "refused": "x", "reported": "!", "off": "-", "notReached": " "}

ControlName = Literal["network", "dlp", "output", "localAuth", "rbac"]


def explain(
    decision: Annotated[
        str, typer.Argument(help="What a reply's x-stockade-decision or apim-request-id says.", show_default=False)
    ],
    form: OutputFormat = "table",
    data_dir: DataDir = None,
) -> None:
    """Say why a past request was answered as it was: every check in its order, and what would have helped."""
    told = _explained(connect(running_settings()), decision)
    if form == "json":
        _print_json(told)
        return
    for line in explanation(told):
        out.print(line, markup=False)


def what_if(
    account: Annotated[
        str, typer.Option("--account", "-a", help="Name or ARM id; with --decision it is known.", show_default=False)
    ] = "",
    patch: Annotated[
        Path | None,
        typer.Option(
            help="The draft: a JSON file as `az rest --method patch --body @FILE` takes it.", show_default=False
        ),
    ] = None,
    decision: Annotated[
        list[str] | None, typer.Option(help="A past request, by its decision id. Repeatable.", show_default=False)
    ] = None,
    last: Annotated[
        int | None, typer.Option(min=1, max=1000, help="The newest requests of the account.", show_default=False)
    ] = None,
    operation: Annotated[
        str, typer.Option(help="Describe a request: its operation, `ChatCompletions_Create`.", show_default=False)
    ] = "",
    method: Annotated[str, typer.Option(help="Or its method, with --path.")] = "POST",
    path: Annotated[str, typer.Option(help="And its path below the account.", show_default=False)] = "",
    address: Annotated[str, typer.Option(help="Where it comes from.", show_default=False)] = "",
    key: Annotated[
        Literal["Key1", "Key2"] | None, typer.Option(help="With which key it comes.", show_default=False)
    ] = None,
    principal: Annotated[str, typer.Option(help="Or as whom: a principal's object id.", show_default=False)] = "",
    deployment: Annotated[str, typer.Option(help="To which deployment.", show_default=False)] = "",
    uri: Annotated[
        list[str] | None, typer.Option(help="A URI that it carries. Repeatable.", show_default=False)
    ] = None,
    assign: Annotated[
        list[str] | None,
        typer.Option(help="Draft a role assignment on the account: PRINCIPAL=ROLE. Repeatable.", show_default=False),
    ] = None,
    remove_assignment: Annotated[
        list[str] | None,
        typer.Option(help="Draft without this role assignment: its id. Repeatable.", show_default=False),
    ] = None,
    form: OutputFormat = "table",
    data_dir: DataDir = None,
) -> None:
    """Ask what would be decided: on a described request, on past ones, by the policy in force and by a draft of it. Changes nothing."""
    arm = connect(running_settings())
    body: dict[str, Any] = {}
    if patch is not None:
        body["change"] = read_patch(patch)
    if assign:
        body["assign"] = [_assignment(text) for text in assign]
    if remove_assignment:
        body["removeAssignments"] = remove_assignment
    if decision:
        body["decisions"] = decision
    elif last is not None:
        body["last"] = last
    else:
        described = {
            "operation": operation,
            "method": method if path else "",
            "path": path,
            "address": address,
            "key": key,
            "principal": principal,
            "deployment": deployment,
            "uris": uri or [],
        }
        body["requests"] = [{name: value for name, value in described.items() if value}]
    account_id = arm.account(account).id if account else _account_of(arm, decision)
    answer = arm.call("POST", f"{account_id}/whatIf", body)
    if form == "json":
        _print_json(answer)
    elif "requests" in answer:
        for line in verdicts(answer["requests"]):
            out.print(line, markup=False)
    else:
        _print_comparison(answer["comparison"])


def report(
    account: Annotated[str, typer.Argument(help="Name or ARM id.", show_default=False)],
    control: Annotated[ControlName, typer.Option(help="Which control.", show_default=False)],
    since: Annotated[str, typer.Option(help="How far back: 24h, 7d, 30d.")] = "7d",
    aggregate: Annotated[
        int | None,
        typer.Option(min=8, max=32, help="Propose IPv4 ranges of this prefix length (IPv6: /64).", show_default=False),
    ] = None,
    patch: Annotated[
        Path | None,
        typer.Option(
            help="Write the proposal there, as `az rest --method patch --body @FILE` takes it.", show_default=False
        ),
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Make the change that is proposed, after asking.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    form: OutputFormat = "table",
    data_dir: DataDir = None,
) -> None:
    """Show what a control has refused or would have refused, by whom, and propose the change that lets it pass."""
    arm = connect(running_settings())
    account_id = arm.account(account).id
    query = {"control": control, "since": since, **({"aggregate": aggregate} if aggregate is not None else {})}
    place = f"{account_id}/controlReport?{urlencode(query)}"
    told = arm.call("GET", place)
    if form == "json":
        _print_json(told)
    else:
        _print_report(told)
    proposal = told["proposal"]
    if patch is not None:
        if proposal["patch"] is None:
            raise Fault(FaultKind.NOT_FOUND, "There is no patch to propose; see the notes and commands of the report.")
        patch.write_text(json.dumps(proposal["patch"], indent=2) + "\n")
        out.print(f"Written to {patch}.", markup=False)
    if apply:
        _apply(arm, account_id, place, proposal, yes=yes)


def read_patch(path: Path) -> dict[str, Any]:
    """Return a draft from a file; typer.BadParameter when it is not a JSON object."""
    try:
        if path.stat().st_size > MAX_PATCH:
            raise typer.BadParameter(f"{path} is larger than {MAX_PATCH} bytes.")
        read = json.loads(path.read_text())
    except OSError as failure:
        raise typer.BadParameter(f"{path}: {failure.strerror}.") from failure
    except ValueError as failure:
        raise typer.BadParameter(f"{path} is not JSON: {failure}.") from failure
    if not isinstance(read, dict):
        raise typer.BadParameter(f"{path} is no JSON object.")
    return read


def explanation(told: Mapping[str, Any]) -> Iterator[str]:
    """Yield an explanation in lines."""
    by = f" by {told['rule']}: {told['reason']}" if told["rule"] else ""
    yield f"{told['id']}  {told['time']}  {_VERDICTS[told['verdict']]}{by}, status {told['status']}"
    yield f"Account  {told['accountId'] or 'none'}"
    width = max(len(step["title"]) for step in told["steps"])
    for step in told["steps"]:
        mode = f"  [{step['mode']}]" if step.get("mode") not in (None, "enforce") else ""
        yield f"  {_MARKS[step['outcome']]} {step['title']:<{width}}  {step['says']}{mode}"
        for uri in step["facts"].get("uris", ()):
            port = f":{uri['port']}" if "port" in uri else ""
            said = f"not allowed ({uri['refused']})" if "refused" in uri else "allowed"
            yield f"    {'':<{width}}  {uri['place']}: {uri['host'] or uri['scheme'] or 'unreadable'}{port} {said}"
    titles = {step["step"]: step["title"] for step in told["steps"]}
    heading = ""
    for one in told["wouldHelp"]:
        if heading != one["rule"]:
            heading = one["rule"]
            yield f"Would help ({titles.get(heading, heading)})"
        yield f"  {one['what']}"
        if "command" in one:
            yield f"    {one['command']}"
    yield f"Now  {_now(told['now'])}"


_VERDICTS: Final[Mapping[str, str]] = {"allow": "allowed", "deny": "refused", "none": "failed before it was decided on"}


def _now(now: Mapping[str, Any]) -> str:
    changed = "the policy has changed since" if now["policyChanged"] else "the policy is the same"
    match now["verdict"]:
        case "unknown":
            return f"cannot be told: {now['because']} ({changed})"
        case "allow":
            reported = f", reported by {', '.join(one['rule'] for one in now['reported'])}" if now["reported"] else ""
            return f"the same request would be allowed{reported} ({changed})"
    return f"the same request would be refused by {now['rule']}: {now['reason']} ({changed})"


def verdicts(requests: list[dict[str, Any]]) -> Iterator[str]:
    """Yield what a what-if says of described requests, in lines."""
    for request in requests:
        yield f"{request['operation']} from {request['address']}"
        for name, title in (("now", "now"), ("draft", "with the draft")):
            told = request[name]
            what = "allowed" if told["verdict"] == "allow" else f"refused by {told['rule']}: {told['message']}"
            reported = f" (reported: {', '.join(one['rule'] for one in told['reported'])})" if told["reported"] else ""
            yield f"  {title:<15} {what}{reported}"


def _print_comparison(told: Mapping[str, Any]) -> None:
    callers = [caller for caller in told["callers"] if caller["newlyRefused"]]
    refused = f"{_count(told['newlyRefused'], 'request')} from {_count(len(callers), 'caller')}"
    out.print(
        f"Of {_count(told['judged'], 'request')} this change would have refused {refused}, and newly allowed {told['newlyAllowed']}.",
        markup=False,
    )
    if told["newlyReported"]:
        out.print(f"It would have reported {told['newlyReported']} more.", markup=False)
    for unknown in told["unknown"]:
        out.print(f"Not told of {unknown['count']}: {unknown['because']}.", markup=False)
    if told["callers"]:
        out.print()
        print_columns(
            ("Caller", "Address", "Refused", "Allowed", "Reported", "Not told", "By", "Client"),
            (
                (
                    caller["caller"],
                    caller["address"],
                    str(caller["newlyRefused"]),
                    str(caller["newlyAllowed"]),
                    str(caller["newlyReported"]),
                    str(caller["unknown"]),
                    ", ".join(caller["rules"]) or "-",
                    caller["client"],
                )
                for caller in told["callers"]
            ),
        )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _print_report(told: Mapping[str, Any]) -> None:
    out.print(
        f"{told['control']} since {told['since']}: {told['refused']} refused, {told['wouldRefuse']} would have been refused.",
        markup=False,
    )
    if told["countedTogether"]:
        out.print(
            f"{told['countedTogether']} of them are counted together: there were too many different ones.", markup=False
        )
    rows = [
        (
            finding["subject"] or "(unreadable)",
            "would refuse" if finding["mode"] == "report" else "refused",
            finding["reason"],
            caller.get("displayName") or caller.get("principal") or caller.get("key") or "-",
            caller.get("address", "-"),
            str(caller["count"]),
            caller["lastSeen"],
            caller.get("client", ""),
        )
        for finding in told["findings"]
        for caller in finding["callers"]
    ]
    if rows:
        out.print()
        print_columns(("What", "Was", "Reason", "Who", "Address", "Count", "Last seen", "Client"), rows)
    proposal = told["proposal"]
    if proposal["adds"] or proposal["assignments"] or proposal["notes"]:
        out.print("\nProposal")
    for add in proposal["adds"]:
        out.print(f"  + {_added(add)}", markup=False)
    for command in proposal["commands"]:
        out.print(f"  {command}", markup=False)
    for note in proposal["notes"]:
        out.print(f"  {note}", markup=False)


def _added(add: Any) -> str:
    if isinstance(add, str):
        return add
    role = f": needs {add['role']}" if add["role"] else ""
    return f"{add['key']} from {add['address']} ({add['client'] or 'unknown client'}), {add['count']} calls, last {add['lastSeen']}{role}"


def _apply(arm: Arm, account_id: str, place: str, proposal: Mapping[str, Any], *, yes: bool) -> None:
    if proposal["patch"] is None and not proposal["assignments"]:
        raise Fault(FaultKind.NOT_FOUND, "There is nothing to apply.")
    if not yes:
        typer.confirm("Apply this?", abort=True)
    # Whoever was asked may have thought for a while, and a list in a patch replaces what is there.
    again = arm.call("GET", place)["proposal"]
    if (again["patch"], again["assignments"]) != (proposal["patch"], proposal["assignments"]):
        raise Fault(
            FaultKind.CONFLICT, "The account or its report has changed meanwhile; nothing was applied. Look again."
        )
    if proposal["patch"] is not None:
        arm.call("PATCH", account_id, proposal["patch"])
    for wanted in proposal["assignments"]:
        properties = {name: wanted[name] for name in ("principalId", "principalType", "roleDefinitionId")}
        path = f"{wanted['scope']}/providers/Microsoft.Authorization/roleAssignments/{uuid.uuid4()}"
        arm.call("PUT", path, {"properties": properties}, api_version=ASSIGNMENTS_VERSION)
    out.print("Applied.")


def _explained(arm: Arm, decision: str) -> dict[str, Any]:
    deadline = time.monotonic() + KEPT_WITHIN_S
    while True:
        try:
            told: dict[str, Any] = arm.call("GET", f"/providers/Stockade.Policy/decisions/{_segment(decision)}")
            return told
        except Fault as fault:
            if fault.kind is not FaultKind.NOT_FOUND or time.monotonic() > deadline:
                raise
        time.sleep(POLL_S)


def _segment(decision: str) -> str:
    text = decision.strip().lower()
    try:
        return str(uuid.UUID(text))
    except ValueError as failure:
        raise typer.BadParameter(
            f"'{text[:64]}' is no decision id; a reply's x-stockade-decision header holds one."
        ) from failure


def _account_of(arm: Arm, decisions: list[str] | None) -> str:
    if not decisions:
        raise typer.BadParameter("Say which account: --account NAME.")
    account_id = str(_explained(arm, decisions[0])["accountId"])
    if not account_id:
        raise Fault(FaultKind.INVALID, "That decision is about no account, so there is no policy to draft.")
    return account_id


def _assignment(text: str) -> dict[str, str]:
    principal, equals, role = text.partition("=")
    if not equals or not principal or not role:
        raise typer.BadParameter(f"'{text[:100]}' is not PRINCIPAL=ROLE.")
    return {"principalId": principal, "role": role}


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2) + "\n")
