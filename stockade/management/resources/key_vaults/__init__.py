"""`Microsoft.KeyVault/vaults`: start at `plugin.py`; `changes.py` holds the rules for writes."""

from stockade.management.resources.key_vaults.plugin import PLUGIN

__all__ = ["PLUGIN"]
