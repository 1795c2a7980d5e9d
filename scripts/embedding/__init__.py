"""The map of cells: variable genes, components, neighbours, UMAP, clusters, markers."""
