"""Alembic's entry: runs the migrations on the connection that `database.engine.migrate` hands over."""

from alembic import context

from luigi_tasks.database.schema import metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, compare_server_default=False
)
context.run_migrations()
