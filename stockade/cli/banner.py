"""The one screen after a start: where everything is, whom to trust, and something that works when pasted."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from stockade import __version__
from stockade.cli.context import out
from stockade.kernel.clock import SimulatedClock, clock_of, iso
from stockade.serve.first_start import DEMO_ACCOUNT, DEMO_DEPLOYMENTS, DEMO_VAULT
from stockade.services.openai.catalogue import BUILT_IN, label
from stockade.settings import DATA_DIR_VARIABLE, Settings, default_data_dir


def command(settings: Settings) -> str:
    """Return how to call this very command from another shell.

    By name when it is found there, else by its path; with the data directory when it is not the default one.
    """
    beside = Path(sys.executable).with_name("stockade")
    found = shutil.which("stockade")
    if found is not None and Path(found).resolve() == beside.resolve():
        text = "stockade"
    elif beside.exists():
        text = shlex.quote(_shortest(beside))
    else:
        text = f"{shlex.quote(_shortest(Path(sys.executable)))} -m stockade"
    default = default_data_dir({})
    return text if settings.data_dir == default else f"{DATA_DIR_VARIABLE}={shlex.quote(str(settings.data_dir))} {text}"


def banner(settings: Settings) -> str:
    """Return the screen, in console markup."""
    call = command(settings)
    endpoint = settings.account_endpoint(DEMO_ACCOUNT)
    body = '{"messages":[{"role":"user","content":"Say hello."}],"max_tokens":20}'
    labels = {model.name: label(model) for model in BUILT_IN}
    clock = clock_of(settings.data_dir)
    lines = [
        f"[bold]Stockade {__version__}[/] is running. Ctrl-C ends it.",
        "",
        f"  AI accounts   {endpoint}   (the demo account)",
        f"  Management    {settings.arm_endpoint}",
        f"  Identity      {settings.authority}",
        f"  Console       {settings.console_endpoint}/   (sign in with an application's id and secret)",
        f"  Key vault     {settings.vault_uri(DEMO_VAULT)}   (also {settings.arm_endpoint}/keys/...)",
        f"  Metadata      {settings.metadata_endpoint}   (managed identities, this machine only)",
        f"  Data          {settings.data_dir}",
        f"  CA to trust   {settings.ca_file}",
        "                (`env` below sets it for az, Azure SDKs, openai, Node.js and curl)",
        *(
            (f"  [bold yellow]Time          is simulated: {iso(clock.now())[:19]}Z[/]   (`{call} clock`)",)
            if isinstance(clock, SimulatedClock)
            else ()
        ),
        "",
        *(f"  Deployment [bold]{name}[/]: {labels[model]}" for name, model in DEMO_DEPLOYMENTS.items()),
        f"To serve your own (Ollama, vLLM, ...): {settings.data_dir / 'settings.toml'}",
        "",
        "[bold]Try it in another shell[/], with nothing but curl:",
        "",
        f'  eval "$({call} env --account {DEMO_ACCOUNT})"',
        '  curl --cacert "$STOCKADE_CA" -H "api-key: $AZURE_OPENAI_API_KEY" -H "content-type: application/json" \\',
        '    "${AZURE_OPENAI_ENDPOINT}openai/deployments/chat/chat/completions?api-version=$OPENAI_API_VERSION" \\',
        f"    -d '{body}'",
        "",
        "or, in the same shell, with OpenAI's client (pip install openai):",
        "",
        "  python3 -c 'from openai import AzureOpenAI",
        'print(AzureOpenAI().embeddings.create(model="embed", input="hello").data[0].embedding[:4])\'',
        "",
        "[bold]What next[/]",
        f"  {call} keys show {DEMO_ACCOUNT}          who uses which key",
        f"  {call} identity create NAME            a principal to try roles with",
        f"  {call} run -a {DEMO_ACCOUNT} --identity -- COMMAND   no key at all",
        f"  {call} audit tail -F                   every decision as it is made",
    ]
    return "\n".join(lines)


def print_banner(settings: Settings) -> None:
    """Print the screen; plain where nobody is looking at a terminal."""
    out.print(banner(settings))


def _shortest(path: Path) -> str:
    try:
        relative = str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
    return relative if "/" in relative else f"./{relative}"
