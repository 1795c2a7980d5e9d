"""Gene set tests, with the tested genes as background."""
