"""Key vaults: their documents (`documents.py`, `compile.py`), lifecycles (`keys.py`, `secrets.py`) and Key Vault's own wire (`app.py`)."""
