"""What is built in and comes through the hooks like anybody's plugin."""
