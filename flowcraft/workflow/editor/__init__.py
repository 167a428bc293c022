"""The JSON Schema of the language, for editors."""
