"""Types of values: as they are written, as JSON Schema, of Python's functions and models."""
