"""The one way out of the data plane: which addresses, by whose answer, over which connection, and what may be fetched."""
