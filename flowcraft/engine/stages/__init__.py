"""One stage: when, each, until, retry, gates; every end of it recorded."""
