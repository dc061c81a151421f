"""From documents to decisions, all of it pure: compile a snapshot, then decide on it."""
