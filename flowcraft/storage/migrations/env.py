"""Alembic's entry: run the revisions on the connection that was handed over."""

from alembic import context

from flowcraft.storage.migrations import VERSION_TABLE
from flowcraft.storage.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
