"""Web pages for people: rendered here, answered by the same pipeline as every other client's calls."""
