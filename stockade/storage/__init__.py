"""Where documents live: one table, a real database under it, and the number that tells every process that something changed."""
