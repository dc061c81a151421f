"""Which data actions may read, change and remove which kind of kept content. The key broker and who asks it read the same table.

Names are relative to `Microsoft.CognitiveServices/accounts/`, as operations have them. What ends in `/*` stands for all below it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PREFIX: Final = "Microsoft.CognitiveServices/accounts/"


@dataclass(frozen=True, slots=True)
class ContentRights:
    """Of one kind: the data actions under which it may be read, and those under which it may be written or removed.

    needs: what a job's starter needs to have the job read such things, whatever the job's own data action is.
    """

    reads: tuple[str, ...]
    writes: tuple[str, ...]
    needs: str


KINDS: Final[dict[str, ContentRights]] = {
    "files": ContentRights(
        # Creating a batch reads its input; the job writes its output and error files.
        reads=("OpenAI/files/*", "OpenAI/batches/write"),
        writes=("OpenAI/files/write", "OpenAI/files/import/action", "OpenAI/files/delete", "OpenAI/batches/write"),
        needs="OpenAI/files/read",
    ),
    "batches": ContentRights(
        reads=("OpenAI/batches/*",),
        writes=("OpenAI/batches/write", "OpenAI/batches/delete", "OpenAI/batches/cancel/action"),
        needs="OpenAI/batches/read",
    ),
    "responses": ContentRights(
        reads=("OpenAI/responses/*",), writes=("OpenAI/responses/*",), needs="OpenAI/responses/read"
    ),
    "completions": ContentRights(
        reads=("OpenAI/stored-completions/*",),
        writes=("OpenAI/stored-completions/*", "OpenAI/deployments/chat/completions/action"),
        needs="OpenAI/stored-completions/read",
    ),
}
"""By the first part of an object's path."""


def relative(data_action: str) -> str:
    """Return a data action as the table has it."""
    return data_action[len(PREFIX) :] if data_action.lower().startswith(PREFIX.lower()) else data_action


def permits(kind: str, access: str, data_action: str) -> bool:
    """Say whether content of a kind may be read or written (`access`) under a data action. An unknown kind may not."""
    rights = KINDS.get(kind)
    if rights is None:
        return False
    wanted = relative(data_action).lower()
    patterns = rights.reads if access == "read" else rights.writes
    return any(_matches(pattern.lower(), wanted) for pattern in patterns)


def _matches(pattern: str, action: str) -> bool:
    return action.startswith(pattern[:-1]) if pattern.endswith("/*") else action == pattern
