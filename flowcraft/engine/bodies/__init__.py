"""The built-in stage bodies, one file each; they come through the same hook as a plugin's."""
