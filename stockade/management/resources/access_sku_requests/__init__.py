"""`Stockade.Access/skuRequests`: asking for the SKU E0, deciding on it, and the notices that went out."""

from stockade.management.resources.access_sku_requests.plugin import PLUGIN

__all__ = ["PLUGIN"]
