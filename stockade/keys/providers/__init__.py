"""Who holds keys: one file each, all held to one conformance suite (`tests/shelves/test_key_providers.py`)."""
