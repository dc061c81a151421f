"""The AI services: one folder each, with its operations, its wire dialect and its engines."""
