"""Which gene sets change, with the tested genes as background."""
