"""The side-by-side benchmark: every server under the same load, pinned the same way, in one run (`make bench`)."""
