"""What accounts keep: encrypted above whatever store holds it, bound to account, path and version."""
