"""What changes with a covariate, cell type by cell type, with the sample as the unit."""
