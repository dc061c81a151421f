"""Alembic's entry: run the migrations on the connection that `Database.migrate` hands over."""

from alembic import context

from stockade.storage.tables import metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, transaction_per_migration=False
)
context.run_migrations()
