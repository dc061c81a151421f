"""The pages, one file per thing that people look at or decide on. Each exports `VIEWS`."""
