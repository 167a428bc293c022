"""YAML with positions: what settings, workflows, inputs are read with."""

from flowcraft.source.document import Document, Position
from flowcraft.source.durations import parse_duration
from flowcraft.source.names import did_you_mean, listed, nearest
from flowcraft.source.reader import MAX_ALIAS_NODES, MAX_BYTES, MAX_DEPTH, decode, plain_document, read_document, resolve_scalar

__all__ = [
    "MAX_ALIAS_NODES",
    "MAX_BYTES",
    "MAX_DEPTH",
    "Document",
    "Position",
    "decode",
    "did_you_mean",
    "listed",
    "nearest",
    "parse_duration",
    "plain_document",
    "read_document",
    "resolve_scalar",
]
