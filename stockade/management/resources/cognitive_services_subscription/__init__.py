"""What Microsoft.CognitiveServices answers for a subscription: SKUs, models, usages, availability, deleted accounts."""

from stockade.management.resources.cognitive_services_subscription.plugin import PLUGIN

__all__ = ["PLUGIN"]
