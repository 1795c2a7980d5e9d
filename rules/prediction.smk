# How well the expression of one cell type predicts a numeric covariate of its samples.


rule ridge:
    """Predict the target of every sample out of fold by ridge regression with one alpha."""
    input:
        sums="<results>/pseudobulk/sums.h5ad",
        cell_types="<results>/pseudobulk/cell_types.tsv",
    output:
        predictions="<results>/ridge/{cell_type}/alpha_{alpha}/predictions.parquet",
        inner="<results>/ridge/{cell_type}/alpha_{alpha}/inner.tsv",
        scores="<results>/ridge/{cell_type}/alpha_{alpha}/scores.tsv",
        coefficients="<results>/ridge/{cell_type}/alpha_{alpha}/coefficients.parquet",
    log:
        local("<logs>/ridge/{cell_type}/alpha_{alpha}.log"),
    benchmark:
        "<benchmarks>/ridge/{cell_type}/alpha_{alpha}.tsv"
    threads: 1
    resources:
        mem_mb=mem_mb("ridge"),
        runtime=runtime("ridge"),
        attempt=attempt,
    params:
        glue("ridge"),
        **{key: value for key, value in config["ridge"].items() if key != "alpha"},
        cell_type=lambda wildcards: wildcards.cell_type,
        alpha=lambda wildcards: float(wildcards.alpha),
        random_state=config["random_state"],
    script:
        "../scripts/ridge.py"


rule ridge_summary:
    """Choose alpha inside each outer fold and summarise one cell type over the sweep."""
    input:
        predictions=expand(
            "<results>/ridge/{{cell_type}}/alpha_{alpha}/predictions.parquet",
            alpha=ALPHAS,
        ),
        inner=expand("<results>/ridge/{{cell_type}}/alpha_{alpha}/inner.tsv", alpha=ALPHAS),
        scores=expand("<results>/ridge/{{cell_type}}/alpha_{alpha}/scores.tsv", alpha=ALPHAS),
    output:
        predictions="<results>/ridge/{cell_type}/predictions.parquet",
        summary="<results>/ridge/{cell_type}/summary.tsv",
        figure="<results>/ridge/{cell_type}/summary.png",
    log:
        local("<logs>/ridge_summary/{cell_type}.log"),
    benchmark:
        "<benchmarks>/ridge_summary/{cell_type}.tsv"
    threads: 1
    resources:
        mem_mb=mem_mb("ridge_summary"),
        runtime=runtime("ridge_summary"),
        attempt=attempt,
    params:
        glue("ridge_summary"),
    script:
        "../scripts/ridge_summary.py"
