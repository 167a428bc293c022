"""The schema's revisions, in steps that Alembic carries out."""

HEAD = "0003"
"""The newest revision. Revisions are numbers of four digits, so that text order is their order."""

VERSION_TABLE = "flowcraft_version"
