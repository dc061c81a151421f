"""`Microsoft.Insights/diagnosticSettings`: which records of an account, a vault or a subscription are sent on, to which sinks of the settings."""

from stockade.management.resources.insights_diagnostic_settings.plugin import PLUGIN

__all__ = ["PLUGIN"]
