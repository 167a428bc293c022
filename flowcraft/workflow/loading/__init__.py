"""From a file to a Workflow: every problem of it at its place."""
