"""The key broker: the one process that unwraps data keys and uses vault keys, on evidence that it verifies itself."""
