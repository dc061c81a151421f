"""Applications, their secrets and groups: what `stockade identity` and the tests make the principals with which roles are tried."""

from stockade.management.resources.directory_principals.plugin import PLUGIN

__all__ = ["PLUGIN"]
