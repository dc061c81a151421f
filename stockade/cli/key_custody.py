"""What `stockade doctor` finds about the platform's own keys: whether the broker has them, and whether they could be had again."""

from __future__ import annotations

from stockade.cli.diagnosis import Finding
from stockade.cli.root_key import sealed_state
from stockade.kernel.faults import Fault
from stockade.keys.recovery import fingerprint, read_kit
from stockade.keys.root import RootKey
from stockade.settings import Settings


def custody(settings: Settings) -> list[Finding]:
    """Look at the key broker, the providers and the recovery kit."""
    state = sealed_state(settings)
    if state is None:
        message = f"the key broker does not answer at {settings.broker_socket}, so nothing that is kept can be read"
        return [Finding("keys", "wrong", message, ("Its lines in the server's log say why.",))]
    found = [Finding("keys", "ok", f"the key broker answers; the root key comes from: {state.root_source}")]
    for name, said in sorted(state.providers.items()):
        if said != "ok":
            found.append(Finding("keys", "wrong", f"the key provider {name} cannot be used: {said}"))
    if not settings.keys.broker_socket:
        found += _recovery(settings)
    return found


def _recovery(settings: Settings) -> list[Finding]:
    kit, file = read_kit(settings.data_dir), settings.root_key_file
    if settings.keys.root == "shares" and file.exists():
        advice = ("stockade keys recovery verify --remove-file",)
        return [Finding("keys", "wrong", f"the root key is to be people's alone, and still lies in {file}", advice)]
    make = ("stockade keys recovery create",)
    if kit is None:
        message = "there is no recovery kit: whoever loses the root key loses everything that is kept"
        return [Finding("keys", "note", message, make)]
    if settings.keys.root == "file":
        try:
            current = fingerprint(RootKey.open(file))
        except Fault as fault:
            return [Finding("keys", "wrong", fault.message)]
        if current != kit.fingerprint:
            return [Finding("keys", "note", "the recovery kit is of a root key from before it was changed", make)]
    return [Finding("keys", "ok", f"a recovery kit was made: {kit.threshold} of {kit.shares} shares")]
