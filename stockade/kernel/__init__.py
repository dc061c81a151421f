"""Pure types that everything else is made of: no I/O, no clock reads, no imports from the rest of the package."""
