"""One question answered well, by one of several models that may fail. Knows no workflow, no settings file and no SQL."""
