"""`Stockade.Access/roleRequests`: asking for a role for a while, and deciding on that."""

from stockade.management.resources.access_role_requests.plugin import PLUGIN

__all__ = ["PLUGIN"]
