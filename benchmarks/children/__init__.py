"""What the measured child processes run. Each prints one JSON object as its last line."""
