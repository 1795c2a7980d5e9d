"""Share of each gene's variance that goes with each covariate, by sequential sums of squares.

The share of a covariate is the part of the gene's sum of squares about its mean that the covariate explains
beyond those before it (type I), as R's anova(lm(y ~ a + b)) lists them and as variancePartition (Hoffman &
Schadt 2016, BMC Bioinformatics 17:483) reports models without random effects. Every covariate is a fixed
effect: a mixed model for each gene is too slow here. So a covariate of d columns explains d / (n - 1) of the
variance of n samples by chance, which is given as well. The shares of all covariates and of the residual add
up to 1.
"""

import numpy as np


def sequential_shares(values: np.ndarray, blocks: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Shares (blocks + 1, genes), the residual last, and degrees of freedom (blocks + 1,).

    values: (samples, genes), genes that vary; blocks: (samples, d) columns of each covariate, in order.
    Columns that those before explain add no degree of freedom.
    """
    centred = values - values.mean(axis=0)
    total = (centred**2).sum(axis=0)
    space = np.zeros((len(values), 0))
    shares, df = [], []
    for block in blocks:
        rest = block - block.mean(axis=0)
        scale = np.linalg.norm(rest, axis=0)
        rest = rest[:, scale > 0] / scale[scale > 0]
        for _ in range(2):  # the second time for rounding
            rest = rest - space @ (space.T @ rest)
        left, singular, _ = np.linalg.svd(rest, full_matrices=False)
        new = left[:, singular > 1e-8]
        space = np.hstack([space, new])
        shares.append(((new.T @ centred) ** 2).sum(axis=0) / total)
        df.append(new.shape[1])
    shares.append(1 - np.sum(shares, axis=0) if shares else np.ones(values.shape[1]))
    return np.array(shares), np.array([*df, len(values) - 1 - sum(df)])
