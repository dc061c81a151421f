"""Work that goes on without a caller, taken up again after a kill: one file each in `work/`."""
