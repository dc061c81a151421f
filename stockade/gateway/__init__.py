"""The data plane: request in, verdict, engine, response out. Nothing on the way asks the database."""
