"""What differs: between two runs, and between a recording and what a file asks for today."""
