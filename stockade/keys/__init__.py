"""The root key and what is derived from it, and subscription keys."""
