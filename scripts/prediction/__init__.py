"""How well the expression of a cell type predicts a covariate."""
