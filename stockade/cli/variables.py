"""What a client needs, as environment variables, and how each shell wants them written.

Source: contracts, data-plane section 7 (names the SDKs read and the quickstarts use); clients 2 (which variable each client trusts a CA by).
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final

from stockade.cli.arm import Account
from stockade.kernel.secret import Secret
from stockade.serve.administrator import Administrator
from stockade.settings import Settings

OPENAI_API_VERSION: Final = "2024-10-21"
"""The newest dated version of the data plane that is generally available."""
CREDENTIALS: Final = ("STOCKADE_CLIENT_ID", "STOCKADE_CLIENT_SECRET", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET")

_PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./~-]*")


class Format(StrEnum):
    """How variables are written."""

    SHELL = "shell"
    DOTENV = "dotenv"
    JSON = "json"
    POWERSHELL = "powershell"


def platform_variables(settings: Settings, administrator: Administrator) -> dict[str, str]:
    """Return what every client needs: addresses, the tenant, the administrator's credential, and whom to trust."""
    secret = administrator.client_secret.reveal_text()
    return {
        "STOCKADE_ARM": settings.arm_endpoint,
        "STOCKADE_AUTHORITY": settings.authority,
        "STOCKADE_TENANT": administrator.tenant_id,
        "STOCKADE_SUBSCRIPTION": administrator.subscription_id,
        "STOCKADE_RESOURCE_GROUP": administrator.resource_group,
        "STOCKADE_LOCATION": settings.names.location,
        "STOCKADE_CLIENT_ID": administrator.client_id,
        "STOCKADE_CLIENT_SECRET": secret,
        "STOCKADE_CA": str(settings.ca_file),
        "STOCKADE_METADATA": settings.metadata_endpoint,
        "STOCKADE_VAULT": settings.vault_uri(settings.vault.default),
        "AZURE_TENANT_ID": administrator.tenant_id,
        "AZURE_CLIENT_ID": administrator.client_id,
        "AZURE_CLIENT_SECRET": secret,
        "AZURE_AUTHORITY_HOST": settings.authority,
        "REQUESTS_CA_BUNDLE": str(settings.ca_bundle_file),
        "SSL_CERT_FILE": str(settings.ca_bundle_file),
        "NODE_EXTRA_CA_CERTS": str(
            settings.ca_file
        ),  # Node adds it to its own; without it no JavaScript client connects
    }


def account_variables(account: Account, key: Secret | None) -> dict[str, str]:
    """Return an account's address and key under the names its kind's SDK reads or its quickstart uses. key None: the address alone."""
    spell = _KINDS.get(account.kind, _generic)
    found = spell(account, key.reveal_text() if key is not None else None)
    return {name: value for name, value in found.items() if value is not None}


def websocket_variables(settings: Settings, account: Account) -> dict[str, str]:
    """Return where an account takes WebSockets; nothing where the settings turn them off."""
    endpoint = settings.websocket_endpoint(account.endpoint)
    return {"STOCKADE_WEBSOCKETS": endpoint} if endpoint else {}


def key_names() -> frozenset[str]:
    """Return every variable that may carry a key, whatever the kind of account."""
    shape = Account("", "", "", "", "", {}, local_auth=True)
    spelled = (spell(shape, "\0") for spell in (*_KINDS.values(), _generic))
    names = {name for found in spelled for name, value in found.items() if value == "\0"}
    return frozenset(names | {"OPENAI_API_KEY", "AZURE_OPENAI_AD_TOKEN"})


def write(variables: Mapping[str, str], form: Format) -> str:
    """Return the variables in one form, ending with a newline."""
    if form is Format.JSON:
        return json.dumps(dict(variables), indent=2) + "\n"
    line = _LINES[form]
    return "".join(f"{line(name, value)}\n" for name, value in variables.items())


def _powershell(value: str) -> str:
    """Quote for PowerShell, whose single quotes know one escape: themselves, doubled. The typographic ones count as quotes too."""
    return "'" + re.sub("(['‘’‚‛])", r"\1\1", value) + "'"


def _dotenv(value: str) -> str:
    if _PLAIN.fullmatch(value):
        return value  # bare, which also those readers take that know no quotes (docker run --env-file)
    if "'" not in value:
        return f"'{value}'"
    return '"' + re.sub(r'([\\"$`])', r"\\\1", value) + '"'


_LINES: Final[Mapping[Format, Callable[[str, str], str]]] = {
    Format.SHELL: lambda name, value: f"export {name}={shlex.quote(value)}",
    Format.DOTENV: lambda name, value: f"{name}={_dotenv(value)}",
    Format.POWERSHELL: lambda name, value: f"$env:{name} = {_powershell(value)}",
}

_Spelled = dict[str, str | None]


def _openai(account: Account, key: str | None) -> _Spelled:
    return {
        "AZURE_OPENAI_ENDPOINT": account.endpoint,
        "AZURE_OPENAI_API_KEY": key,
        "OPENAI_API_VERSION": OPENAI_API_VERSION,
    }


def _language(account: Account, key: str | None) -> _Spelled:
    return {"LANGUAGE_ENDPOINT": account.endpoint, "LANGUAGE_KEY": key}


def _speech(account: Account, key: str | None) -> _Spelled:
    return {
        "SPEECH_KEY": key,
        "SPEECH_REGION": account.location,
        "SPEECH_ENDPOINT": account.endpoint,
        "ENDPOINT": account.endpoint,
    }


def _named(endpoint: str, key_name: str) -> Callable[[Account, str | None], _Spelled]:
    return lambda account, key: {endpoint: account.endpoint, key_name: key}


def _generic(account: Account, key: str | None) -> _Spelled:
    return {"COGNITIVE_SERVICES_ENDPOINT": account.endpoint, "COGNITIVE_SERVICES_KEY": key}


def _all_in_one(account: Account, key: str | None) -> _Spelled:
    return _openai(account, key) | _language(account, key) | _speech(account, key) | _generic(account, key)


_KINDS: Final[Mapping[str, Callable[[Account, str | None], _Spelled]]] = {
    "OpenAI": _openai,
    "AIServices": _all_in_one,
    "CognitiveServices": lambda account, key: _language(account, key) | _speech(account, key) | _generic(account, key),
    "TextAnalytics": _language,
    "SpeechServices": _speech,
    "Face": _named("FACE_ENDPOINT", "FACE_APIKEY"),
    "ComputerVision": _named("VISION_ENDPOINT", "VISION_KEY"),
    "ContentModerator": _named("CONTENT_MODERATOR_ENDPOINT", "CONTENT_MODERATOR_SUBSCRIPTION_KEY"),
    "ContentSafety": _named("CONTENT_SAFETY_ENDPOINT", "CONTENT_SAFETY_KEY"),
    "Personalizer": _named("PERSONALIZER_ENDPOINT", "PERSONALIZER_KEY"),
    "TextTranslation": lambda account, key: {
        "TRANSLATOR_TEXT_ENDPOINT": account.endpoint,
        "TRANSLATOR_TEXT_SUBSCRIPTION_KEY": key,
        "TRANSLATOR_TEXT_REGION": account.location,
    },
    "LUIS": _named("LUIS_ENDPOINT", "LUIS_KEY"),
    "LUIS.Authoring": _named("LUIS_AUTHORING_ENDPOINT", "LUIS_AUTHORING_KEY"),
}
