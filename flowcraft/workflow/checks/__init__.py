"""What needs knowledge of models, plugins and this machine."""
