# How well the expression of a cell type predicts a numeric covariate of its samples.


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
    log:
        local("<logs>/ridge/alpha_{alpha}.log"),
    benchmark:
        local("<benchmarks>/ridge/alpha_{alpha}.tsv")
    threads: 1
    resources:
        mem_mb=mem_mb("ridge"),
        runtime=runtime("ridge"),
        attempt=attempt,
    params:
        glue("ridge"),
        **{key: value for key, value in config["ridge"].items() if key != "alpha"},
        alpha=lambda wildcards: float(wildcards.alpha),
        random_state=config["random_state"],
    script:
        "../scripts/ridge.py"


rule ridge_summary:
    """Choose alpha inside each outer fold and summarise all cell types over the sweep."""
    input:
        predictions=expand("<results>/ridge/alpha_{alpha}/predictions.parquet", alpha=ALPHAS),
        inner=expand("<results>/ridge/alpha_{alpha}/inner.tsv", alpha=ALPHAS),
        status=expand("<results>/ridge/alpha_{alpha}/status.tsv", alpha=ALPHAS),
    output:
        predictions="<results>/ridge/predictions.parquet",
        scores="<results>/ridge/scores.tsv",
        summary="<results>/ridge/summary.tsv",
        alphas="<results>/ridge/alphas.png",
        figure="<results>/ridge/predictions.png",
    log:
        local("<logs>/ridge_summary.log"),
    benchmark:
        local("<benchmarks>/ridge_summary.tsv")
    threads: 1
    resources:
        mem_mb=mem_mb("ridge_summary"),
        runtime=runtime("ridge_summary"),
        attempt=attempt,
    params:
        glue("ridge_summary"),
    script:
        "../scripts/ridge_summary.py"
