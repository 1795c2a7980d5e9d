"""How far the answers of the variants of a config agree."""
