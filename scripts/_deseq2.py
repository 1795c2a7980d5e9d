"""PyDESeq2 with R's decisions where the two differ, a likelihood-ratio test and shrunken effects.

Differences from PyDESeq2 0.5.4, each held to R's DESeq2 1.38.3 by tests/unit/test_oracle.py:
- trend of dispersions: R's choice of genes (see RInference), so that it seldom falls back on one mean;
- outliers: a gene with a count beyond the 99 % quantile of F(p, n - p) by Cook's distance, among samples with
  2 or more others in their row of the model matrix, gets no p-value. PyDESeq2 always spares a gene with 3
  counts above the outlier, R in designs of two groups only.
The likelihood-ratio test is R's nbinomLRT: dispersions of the full model in both fits.
"""

import numpy as np
import pandas as pd
from _design import Design
from pydeseq2.dds import DeseqDataSet
from pydeseq2.default_inference import DefaultInference
from pydeseq2.ds import DeseqStats
from pydeseq2.utils import n_or_more_replicates
from scipy import stats
from scipy.optimize import brentq

NO_SHRINKAGE = 15  # scale of the normal prior of the other coefficients, natural log (apeglm's)
PRIOR_VARIANCES = (1e-6, 400.0)  # bounds, natural log squared (apeglm's)


class RInference(DefaultInference):
    """PyDESeq2 with R's dispersion trend, a Gamma regression of dispersions on 1 / mean (Love et al. 2014).

    PyDESeq2 fits all genes at first, and those without overdispersion (1e-8) can pull the slope to 0, when it
    falls back on one mean dispersion. R (parametricDispersionFit) leaves those out, and the genes far from
    the trend, which it chooses anew around each fit.
    """

    def dispersion_trend_gamma_glm(self, covariates, targets):
        """Coefficients (asymptotic dispersion, extra Poisson), their trend, and whether they converged."""
        design, targets = np.column_stack([np.ones(len(covariates)), covariates]), targets.to_numpy()
        coefficients, converged = np.array([0.1, 1.0]), False
        for _ in range(200):
            trend, before = design @ coefficients, coefficients
            near = (targets > 1e-6) & (targets > 1e-4 * trend) & (targets < 15 * trend)
            if near.sum() < 2:
                break
            coefficients = np.linalg.lstsq(design[near] / trend[near, None], targets[near] / trend[near])[0]
            if (coefficients <= 0).any():
                break
            if np.allclose(coefficients, before, rtol=1e-8, atol=0):
                converged = True
                break
        return coefficients, design @ coefficients, converged


class RDataSet(DeseqDataSet):
    """PyDESeq2's data with R's choice of genes that get no p-value (its results and recordMaxCooks)."""

    two_groups = False

    def cooks_outlier(self):
        """(genes,) bool; the distances are deleted, as PyDESeq2 does with low_memory."""
        if self.two_groups or "_pvalue_cooks_outlier" in self.var:
            return super().cooks_outlier()
        samples, coefficients = self.obsm["design_matrix"].shape
        cutoff = stats.f.ppf(0.99, coefficients, samples - coefficients)
        replicated = n_or_more_replicates(self.obsm["design_matrix"], 3).to_numpy()
        refitted = self.refit_cooks and "replace_cooks" in self.layers
        cooks = self.layers["replace_cooks" if refitted else "cooks"]
        self.var["_pvalue_cooks_outlier"] = (cooks[replicated] > cutoff).any(axis=0)
        for layer in ("cooks", "replace_cooks"):
            if layer in self.layers:
                del self.layers[layer]
        return self.var["_pvalue_cooks_outlier"]


def fit(
    counts: pd.DataFrame, design: Design, *, fdr: float, cooks: bool, shrink: bool, threads: int
) -> tuple[pd.DataFrame, pd.Series, dict]:
    """Table of genes, size factors of the samples, and what was chosen: size_factors, trend, test, shrinkage.

    counts: samples x genes, integers, a count in every gene; design: one that can be fitted.
    Wald test of one effect; likelihood ratio of a joint design, when log2FoldChange and lfcSE are missing.
    """
    inference = RInference(n_cpus=threads)
    method = "poscounts" if (counts.to_numpy() == 0).any(axis=0).all() else "ratio"
    dataset = RDataSet(
        counts=counts,
        metadata=pd.DataFrame(index=counts.index),
        design=design.matrix.set_axis(counts.index),
        size_factors_fit_type=method,
        refit_cooks=cooks,
        inference=inference,
        quiet=True,
        low_memory=True,
    )
    dataset.two_groups = design.two_groups
    dataset.deseq2()
    vector = np.eye(len(design.term), design.matrix.shape[1])[0] if design.joint else design.vector
    tested = DeseqStats(
        dataset, contrast=vector, alpha=fdr, cooks_filter=cooks, inference=inference, quiet=True
    )
    converged = dataset.var["_LFC_converged"].astype(bool)
    if design.joint:
        converged &= likelihood_ratio_(tested, design)
    tested.summary()
    genes = tested.results_df.assign(
        df=len(design.hypothesis),
        log2Range=spans(dataset.varm["LFC"], design),
        log2FoldChange_shrunk=np.nan,
        lfcSE_shrunk=np.nan,
        **dispersions(dataset),
        converged=converged,
        outlier=dataset.cooks_outlier().astype(bool) & cooks,
    )
    shrinkage = why_not_shrunk(design) if shrink else "off"
    if shrink and not shrinkage:
        shrinkage = "apeglm"
        genes[["log2FoldChange_shrunk", "lfcSE_shrunk"]] = shrunk(tested, design)
    if design.joint:
        genes[["log2FoldChange", "lfcSE"]] = np.nan
    chosen = {"size_factors": method, "trend": dataset.uns["disp_function_type"], "shrinkage": shrinkage}
    return genes, dataset.obs["size_factors"], chosen


def dispersions(dataset: DeseqDataSet) -> dict[str, pd.Series]:
    """Dispersions on the way to the final one, and how they were found.

    A gene whose outliers were replaced is fitted anew; PyDESeq2 keeps no maximum a posteriori value of that.
    """
    fitted_anew = "refitted" in dataset.var and dataset.var["refitted"].to_numpy(dtype=bool)
    searched = ~(dataset.var["_genewise_converged"] & dataset.var["_MAP_converged"]).astype(bool)
    return {
        "dispersion": dataset.var["dispersions"],
        "dispersion_gene": dataset.var["genewise_dispersions"],
        "dispersion_trend": dataset.var["fitted_dispersions"],
        "dispersion_map": dataset.var["MAP_dispersions"].where(~np.broadcast_to(fitted_anew, dataset.n_vars)),
        "dispersion_searched": searched,
        "replaced": pd.Series((final_counts(dataset) != dataset.X).any(axis=0), index=dataset.var_names),
    }


def spans(coefficients: pd.DataFrame, design: Design) -> np.ndarray:
    """(genes,) largest difference in log2 between two samples used that the tested term alone makes."""
    term = list(design.term)
    return np.ptp(design.matrix[term].to_numpy() @ coefficients[term].to_numpy().T, axis=0) / np.log(2)


def final_counts(dataset: DeseqDataSet) -> np.ndarray:
    """(samples, genes) counts that the coefficients were fitted to: outliers replaced."""
    counts = np.array(dataset.X)
    if "refitted" in dataset.var and dataset.var["refitted"].any():
        counts[:, dataset.var["refitted"].to_numpy(dtype=bool)] = dataset.counts_to_refit.X
    return counts


def likelihood_ratio_(tested: DeseqStats, design: Design) -> np.ndarray:
    """Put statistics and p-values of the likelihood-ratio test in the place of Wald's; (genes,) converged.

    Genes whose counts are all zero once outliers are replaced have statistic 0 and p-value 1, as in R.
    """
    dataset = tested.dds
    stat, converged = log_likelihood_ratio(
        final_counts(dataset),
        dataset.obs["size_factors"].to_numpy(),
        dataset.var["dispersions"].to_numpy(),
        design.matrix.to_numpy(),
        design.reduced,
        inference=tested.inference,
    )
    statistics = pd.Series(np.maximum(stat, 0), index=dataset.var_names)
    if dataset.refit_cooks and dataset.var["replaced"].any():
        statistics[dataset.new_all_zeroes_genes] = 0.0
    tested.statistics = statistics
    tested.p_values = pd.Series(stats.chi2.sf(statistics, len(design.hypothesis)), index=dataset.var_names)
    tested.SE = pd.Series(np.nan, index=dataset.var_names)
    return converged


def log_likelihood_ratio(
    counts, size_factors, dispersions, full, reduced, *, inference: DefaultInference
) -> tuple[np.ndarray, np.ndarray]:
    """Twice the gain in log-likelihood of negative binomial fits of two designs, per gene (Love et al. 2014).

    counts: (samples, genes); size_factors: (samples,); dispersions: (genes,), the same in both fits; full,
    reduced: model matrices. Also whether both fits converged.
    """
    values = []
    for design in (full, reduced):
        _, mean, _, converged = inference.irls(
            counts, size_factors, design, dispersions, min_mu=0.5, beta_tol=1e-8
        )
        density = stats.nbinom.logpmf(counts, 1 / dispersions, 1 / (1 + mean * dispersions))
        values.append((density.sum(axis=0), converged.astype(bool)))
    (gained, one), (base, other) = values
    return 2 * (gained - base), one & other


def why_not_shrunk(design: Design) -> str:
    """Why an effect cannot be shrunk, "" if it can: apeglm's prior is one of a single coefficient."""
    if design.joint:
        return "not shrunk: several effects are tested together"
    single = np.count_nonzero(design.vector) == 1
    return "" if single else f"not shrunk: {design.coefficient} is a combination of coefficients"


def shrunk(tested: DeseqStats, design: Design) -> np.ndarray:
    """(genes, 2) apeglm's shrunken log2 effect per unit and its posterior standard deviation.

    Maximum a posteriori under a Cauchy prior whose scale is found from all genes (Zhu, Ibrahim & Love 2019,
    Bioinformatics 35:2084). A number is shrunk per standard deviation over the samples used, so that the
    bounds of the prior do not depend on the unit; a level against its reference as it stands.
    """
    dataset = tested.dds
    place = int(np.flatnonzero(design.vector)[0])
    matrix = design.matrix.to_numpy().copy()
    column = matrix[:, place]
    scale = column.std(ddof=1) if len(np.unique(column)) > 2 else 1.0
    matrix[:, place] = column / scale
    weight = design.vector[place]
    effects = dataset.varm["LFC"].iloc[:, place].to_numpy() * scale
    variance = prior_variance(effects, tested.SE.to_numpy() / abs(weight) * scale)
    prior_scale = min(np.sqrt(variance), 1.0)
    counts, size = final_counts(dataset), 1 / dataset.var["dispersions"].to_numpy()
    offset = np.log(dataset.obs["size_factors"].to_numpy())
    coefficients, _, _ = tested.inference.lfc_shrink_nbinom_glm(
        design_matrix=matrix,
        counts=counts,
        size=size,
        offset=offset,
        prior_no_shrink_scale=NO_SHRINKAGE,
        prior_scale=prior_scale,
        optimizer="L-BFGS-B",
        shrink_index=place,
    )
    sd = posterior_sd(matrix, counts, size, offset, coefficients, place=place, prior_scale=prior_scale)
    to_unit = weight / scale / np.log(2)
    return np.column_stack([coefficients[:, place] * to_unit, sd * abs(to_unit)])


def prior_variance(effects: np.ndarray, se: np.ndarray) -> float:
    """Variance of true effects whose estimates have the standard errors se (Zhu et al. 2019, natural log).

    The root of sum w (effects^2 - se^2 - a) over a, w = 1 / (a + se^2)^2, within PRIOR_VARIANCES.
    """
    squares, errors = effects**2, se**2

    def excess(a: float) -> float:
        weights = 1 / (a + errors) ** 2
        return np.sum(weights * (squares - errors)) / np.sum(weights) - a

    low, high = PRIOR_VARIANCES
    if excess(low) < 0:
        return low
    return high if excess(high) > 0 else brentq(excess, low, high)


def posterior_sd(matrix, counts, size, offset, coefficients, *, place: int, prior_scale: float) -> np.ndarray:
    """(genes,) Laplace approximation of the posterior standard deviation of one coefficient, natural log.

    The inverse Hessian at the maximum. PyDESeq2's own adds the prior's part to whole columns, not to the
    diagonal, so it is not used. Missing where the Hessian is not positive there.
    """
    mean = np.exp(coefficients @ matrix.T + offset).T
    weights = (counts + size) * size * mean / (size + mean) ** 2
    squares = coefficients[:, place] ** 2
    of_prior = 2 * (prior_scale**2 - squares) / (prior_scale**2 + squares) ** 2
    diagonal = np.full(matrix.shape[1], 1 / NO_SHRINKAGE**2)
    unit = np.eye(matrix.shape[1])[place]
    variance = np.empty(len(coefficients))
    for gene, weight in enumerate(weights.T):
        diagonal[place] = of_prior[gene]
        variance[gene] = np.linalg.solve((matrix.T * weight) @ matrix + np.diag(diagonal), unit)[place]
    return np.sqrt(np.where(variance > 0, variance, np.nan))
