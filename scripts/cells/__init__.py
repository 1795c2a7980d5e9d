"""Which cells can be trusted."""
