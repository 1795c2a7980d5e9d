# How well the expression of a cell type predicts a covariate of its samples.


FOLD_SETTINGS = ("target", "level", "reference", "folds", "repeats", "inner_folds")


rule ridge:
    """Predict the target of every sample out of fold by ridge regression with one alpha."""
    input:
        sums="<results>/pseudobulk/sums.h5ad",
        cell_types="<results>/pseudobulk/cell_types.tsv",
    output:
        predictions="<results>/ridge/alpha_{alpha}/predictions.parquet",
        inner="<results>/ridge/alpha_{alpha}/inner.tsv",
        status="<results>/ridge/alpha_{alpha}/status.tsv",
        coefficients="<results>/ridge/alpha_{alpha}/coefficients.parquet",
        null="<results>/ridge/alpha_{alpha}/null.parquet",
    log:
        local("<logs>/ridge/alpha_{alpha}.log"),
    benchmark:
        local("<benchmarks>/ridge/alpha_{alpha}.tsv")
    resources:
        **requests("ridge"),
    params:
        digest("prediction/ridge"),
        **settings("ridge", "n_top_genes", "min_share", "permutations", *FOLD_SETTINGS),
        alpha=lambda wildcards: float(wildcards.alpha),
        random_state=config["random_state"],
    script:
        "../scripts/prediction/ridge.py"


rule baselines:
    """Predict the target without genes, in the folds of ridge: what expression has to beat."""
    input:
        sums="<results>/pseudobulk/sums.h5ad",
        cell_types="<results>/pseudobulk/cell_types.tsv",
    output:
        predictions="<results>/baselines/predictions.parquet",
        features="<results>/baselines/features.tsv",
    log:
        local("<logs>/baselines.log"),
    benchmark:
        local("<benchmarks>/baselines.tsv")
    resources:
        **requests("baselines"),
    params:
        digest("prediction/baselines"),
        **settings("ridge", "baselines", "baseline_alpha", *FOLD_SETTINGS),
        random_state=config["random_state"],
    script:
        "../scripts/prediction/baselines.py"


rule profiles:
    """Mean expression of the samples of each model, by which predict knows its cell type."""
    input:
        sums="<results>/pseudobulk/sums.h5ad",
        cell_types="<results>/pseudobulk/cell_types.tsv",
    output:
        profiles="<results>/profiles/profiles.parquet",
        correlations="<results>/profiles/correlations.tsv",
    log:
        local("<logs>/profiles.log"),
    benchmark:
        local("<benchmarks>/profiles.tsv")
    resources:
        **requests("profiles"),
    params:
        digest("prediction/profiles"),
        **settings("ridge", "target", "level", "reference", "min_share"),
    script:
        "../scripts/prediction/profiles.py"


rule ridge_summary:
    """Choose alpha in each outer fold, compare with baselines and chance, keep the final models."""
    input:
        predictions=expand("<results>/ridge/alpha_{alpha}/predictions.parquet", alpha=ALPHAS),
        inner=expand("<results>/ridge/alpha_{alpha}/inner.tsv", alpha=ALPHAS),
        status=expand("<results>/ridge/alpha_{alpha}/status.tsv", alpha=ALPHAS),
        coefficients=expand("<results>/ridge/alpha_{alpha}/coefficients.parquet", alpha=ALPHAS),
        null=expand("<results>/ridge/alpha_{alpha}/null.parquet", alpha=ALPHAS),
        baselines="<results>/baselines/predictions.parquet",
        profiles="<results>/profiles/profiles.parquet",
        correlations="<results>/profiles/correlations.tsv",
        cell_types="<results>/pseudobulk/cell_types.tsv",
    output:
        predictions="<results>/ridge/predictions.parquet",
        scores="<results>/ridge/scores.tsv",
        summary="<results>/ridge/summary.tsv",
        null="<results>/ridge/null.tsv",
        gaps="<results>/ridge/gaps.tsv",
        models="<results>/ridge/models/coefficients.tsv",
        description="<results>/ridge/models/models.json",
        profiles="<results>/ridge/models/profiles.parquet",
        warnings="<results>/warnings/ridge_summary.tsv",
        alphas=report(
            "<results>/ridge/alphas.png",
            caption="../workflow/captions/alphas.rst",
            category="Prediction",
            labels={"figure": "score over the penalty"},
        ),
        figure=report(
            "<results>/ridge/predictions.png",
            caption="../workflow/captions/predictions.rst",
            category="Prediction",
            labels={"figure": "predicted against observed"},
        ),
    log:
        local("<logs>/ridge_summary.log"),
    benchmark:
        local("<benchmarks>/ridge_summary.tsv")
    resources:
        **requests("ridge_summary"),
    params:
        digest("prediction/ridge_summary"),
        bootstraps=config["ridge"]["bootstraps"],
        random_state=config["random_state"],
    script:
        "../scripts/prediction/ridge_summary.py"
