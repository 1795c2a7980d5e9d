"""Log expression of sums, the x of `ridge`."""

import numpy as np
from scipy.sparse import csr_array


def log_expression(counts: csr_array) -> csr_array:
    """ln(1 + counts per 10,000), (samples, genes); 0 exactly if the count is 0."""
    rate = counts.astype(float)
    rate.data *= np.repeat(1e4 / counts.sum(axis=1), np.diff(counts.indptr))
    return rate.log1p()
