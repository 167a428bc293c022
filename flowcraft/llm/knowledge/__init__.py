"""What is known of models from their calls and from verdicts: figures, speeds, ratings, lateness."""
