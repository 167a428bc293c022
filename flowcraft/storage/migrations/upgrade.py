"""Bring a database to the newest revision; imported only when it is not there yet, because Alembic takes long to import."""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from flowcraft.storage.migrations import HEAD


def upgrade(connection: Connection) -> None:
    """Carry out what is missing, inside the connection's own transaction."""
    config = Config()
    config.set_main_option("script_location", "flowcraft.storage:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, HEAD)
