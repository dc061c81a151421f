"""`Microsoft.CognitiveServices/accounts`: start at `plugin.py`; `changes.py` holds the rules for writes."""

from stockade.management.resources.cognitive_services_accounts.plugin import PLUGIN

__all__ = ["PLUGIN"]
