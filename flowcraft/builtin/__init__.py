"""What is built in; it comes through the hooks like anybody's plugin."""
