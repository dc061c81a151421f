"""Past decisions over ARM: reading and explaining them, what a change would do, and what controls refused or would have."""
