"""The kinds of work: one file each, exporting `PLUGIN`."""
