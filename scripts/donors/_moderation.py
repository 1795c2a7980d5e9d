"""Residual variances of many linear models drawn towards a common prior (Smyth 2004, SAGMB 3:3)."""

import numpy as np
from scipy.optimize import brentq
from scipy.special import digamma, polygamma


def moderate(variances: np.ndarray, df: int) -> tuple[np.ndarray, float, float]:
    """Residual variances drawn towards their common prior.

    variances: (models,) with df degrees of freedom each. Returns the moderated variances, the prior's
    degrees of freedom (infinite when the variances differ no more than by chance) and its scale. One
    variance has no prior.
    Source: Smyth 2004, section 6.2.
    """
    if len(variances) < 2:
        return variances, 0.0, np.nan
    e = np.log(variances) - digamma(df / 2) + np.log(df / 2)
    spread = e.var(ddof=1) - polygamma(1, df / 2)
    if spread <= 0:
        return np.full_like(variances, variances.mean()), np.inf, variances.mean()
    prior_df = 2 * brentq(lambda x: polygamma(1, x) - spread, 1e-8, 1e8, xtol=1e-12, rtol=1e-12)
    scale = np.exp(e.mean() + digamma(prior_df / 2) - np.log(prior_df / 2))
    return (prior_df * scale + df * variances) / (prior_df + df), prior_df, scale
