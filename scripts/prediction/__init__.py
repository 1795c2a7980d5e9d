"""Prediction of a covariate from the expression of each cell type."""
