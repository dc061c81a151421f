"""The shelf of resource types: every module or folder here exports `PLUGIN`, see `stockade.management.resource_type`."""
