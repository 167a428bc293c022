"""Bring a database to the newest revision; imported only when it is not there yet, because Alembic takes long to import."""

from __future__ import annotations

import threading

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from flowcraft.storage.migrations import HEAD

_ONE_AT_A_TIME = threading.Lock()
"""Alembic keeps what it works on in globals, so that two databases cannot be brought up at once."""


def upgrade(connection: Connection) -> None:
    """Carry out what is missing, inside the connection's own transaction."""
    config = Config()
    config.set_main_option("script_location", "flowcraft.storage:migrations")
    config.attributes["connection"] = connection
    with _ONE_AT_A_TIME:
        command.upgrade(config, HEAD)
