"""Speed, measured: every number comes from a child process of its own, in interleaved rounds."""
