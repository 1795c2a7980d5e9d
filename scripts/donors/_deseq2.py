"""PyDESeq2 with R's decisions where the two differ, a likelihood-ratio test and shrunken effects.

Differences from PyDESeq2 0.5.4, each held to R's DESeq2 1.38.3 by tests/unit/donors/test_oracle.py:
- trend of dispersions: R's choice of genes (see RInference), so that it rarely falls back on one mean;
- outliers: a gene with a count beyond the 99 % quantile of F(p, n - p) by Cook's distance, among samples with
  2 or more others in their row of the model matrix, gets no p-value. PyDESeq2 always spares a gene with 3
  counts above the outlier, R in designs of two groups only;
- independent filtering: the threshold of mean counts is chosen by R's lowess, which statsmodels has too.
The likelihood-ratio test is R's nbinomLRT: dispersions of the full model in both fits.
"""

import numpy as np
import pandas as pd
from pydeseq2.dds import DeseqDataSet
from pydeseq2.default_inference import DefaultInference
from pydeseq2.ds import DeseqStats
from pydeseq2.utils import n_or_more_replicates
from scipy import stats
from statsmodels.nonparametric.smoothers_lowess import lowess

from donors._design import Design
from donors._irls import blocks, hat_diagonals, regress
from donors._shrink import shrunk, why_not_shrunk


class RInference(DefaultInference):
    """PyDESeq2 with R's dispersion trend, and regressions of many genes at once."""

    def irls(self, counts, size_factors, design_matrix, disp, min_mu, beta_tol, **options):
        """PyDESeq2's, with the same numbers: coefficients, means, leverages and whether they converged.

        Genes with diverging steps are left to PyDESeq2, which has another optimizer for them. That one keeps
        coefficients within max_beta; at this bound there is no maximum, so such a gene has not converged.
        """
        given = {"size_factors": size_factors, "design_matrix": design_matrix}
        given |= {"min_mu": min_mu, "beta_tol": beta_tol, **options}
        limits = {"min_mu": min_mu, "beta_tol": beta_tol, "max_beta": options.get("max_beta", 30)}
        limits["maxiter"] = options.get("maxiter", 250)
        bound = limits["max_beta"] * (1 - 1e-6)
        if np.linalg.matrix_rank(design_matrix) < design_matrix.shape[1]:
            return super().irls(counts, disp=disp, **given)
        samples, genes = counts.shape
        beta, converged = np.empty((genes, design_matrix.shape[1])), np.empty(genes, dtype=bool)
        mu, hat = np.empty((genes, samples)), np.empty((genes, samples))
        for some in blocks(genes, samples):
            y = np.ascontiguousarray(counts[:, some].T, dtype=float)
            beta[some], converged[some] = regress(y, size_factors, design_matrix, disp[some], **limits)
            mu[some] = size_factors * np.exp(beta[some] @ design_matrix.T)
            hat[some] = hat_diagonals(np.maximum(mu[some], min_mu), design_matrix, disp[some])
        left = np.flatnonzero(~converged)
        if len(left):
            beta[left], theirs, leverages, converged[left] = super().irls(
                counts[:, left], disp=disp[left], **given
            )
            mu[left], hat[left] = theirs.T, leverages.T
            converged[left] &= (np.abs(beta[left]) < bound).all(axis=1)
        return beta, mu.T, hat.T, converged

    def dispersion_trend_gamma_glm(self, covariates, targets):
        """Coefficients (asymptotic dispersion, extra Poisson), their trend, and whether they converged.

        A Gamma regression of dispersions on 1 / mean (Love et al. 2014). PyDESeq2 fits all genes at first,
        and those without overdispersion (1e-8) can pull the slope to 0, when it falls back on one mean
        dispersion. R (parametricDispersionFit) leaves those out, and the genes far from the trend, which it
        chooses again around each fit.
        """
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


class RStats(DeseqStats):
    """PyDESeq2's tests with R's independent filtering."""

    def _independent_filtering(self):
        self.padj, self.filter_threshold = independent_filter(self.base_mean, self.p_values, alpha=self.alpha)


def independent_filter(means: pd.Series, pvalues: pd.Series, *, alpha: float) -> tuple[pd.Series, float]:
    """Adjusted p-values of the genes with a mean that is not too low for a discovery, and that mean.

    means, pvalues: of the same genes. Of 50 quantiles of the means, the first above which Benjamini-Hochberg
    rejects, at alpha, nearly as many as it does anywhere: within the root mean square distance of the
    numbers from their lowess curve, of its peak (R's pvalueAdjustment). Missing below, and without p-value.
    """
    lowest = (means == 0).mean()
    quantiles = np.linspace(lowest, 0.95 if lowest < 0.95 else 1, 50)
    cutoffs = np.quantile(means, quantiles)
    adjusted = []
    for cutoff in cutoffs:
        use = (means >= cutoff) & pvalues.notna()
        padj = pd.Series(np.nan, index=pvalues.index)
        if use.any():
            padj[use] = stats.false_discovery_control(pvalues[use])
        adjusted.append(padj)
    rejected = np.array([(padj < alpha).sum() for padj in adjusted], dtype=float)
    chosen = 0
    if rejected.max() > 10:
        step = 0.01 * np.ptp(quantiles)  # R's default
        curve = lowess(rejected, quantiles, frac=1 / 5, it=3, delta=step, return_sorted=False)
        some = rejected > 0
        enough = rejected > curve.max() - np.sqrt(np.mean((rejected[some] - curve[some]) ** 2))
        chosen = int(enough.argmax())
    return adjusted[chosen], float(cutoffs[chosen])


def fit(
    counts: pd.DataFrame, design: Design, *, fdr: float, cooks: bool, shrink: bool, threads: int
) -> tuple[pd.DataFrame, pd.Series, dict]:
    """Table of genes, size factors of the samples, and what was chosen.

    Chosen are size_factors (the method), trend, shrinkage and filter_threshold (mean count).
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
    tested = RStats(dataset, contrast=vector, alpha=fdr, cooks_filter=cooks, inference=inference, quiet=True)
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
        genes[["log2FoldChange_shrunk", "lfcSE_shrunk"]] = shrunk(
            dataset, design, final_counts(dataset), tested.SE.to_numpy()
        )
    if design.joint:
        genes[["log2FoldChange", "lfcSE"]] = np.nan
    chosen = {
        "size_factors": method,
        "trend": dataset.uns["disp_function_type"],
        "shrinkage": shrinkage,
        "filter_threshold": tested.filter_threshold,
    }
    return genes, dataset.obs["size_factors"], chosen


def dispersions(dataset: DeseqDataSet) -> dict[str, pd.Series]:
    """Dispersions on the way to the final one, and how they were found.

    A gene with replaced outliers is fitted again; PyDESeq2 keeps no maximum a posteriori value of that.
    """
    refitted = "refitted" in dataset.var and dataset.var["refitted"].to_numpy(dtype=bool)
    searched = ~(dataset.var["_genewise_converged"] & dataset.var["_MAP_converged"]).astype(bool)
    return {
        "dispersion": dataset.var["dispersions"],
        "dispersion_gene": dataset.var["genewise_dispersions"],
        "dispersion_trend": dataset.var["fitted_dispersions"],
        "dispersion_map": dataset.var["MAP_dispersions"].where(~np.broadcast_to(refitted, dataset.n_vars)),
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

    Genes with counts that are all zero once outliers are replaced have statistic 0 and p-value 1, as in R.
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
