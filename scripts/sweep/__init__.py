"""Comparison of the results of variants of a config."""
