"""What the resource types of Microsoft.Network, and accounts that refer to them, have in common."""
