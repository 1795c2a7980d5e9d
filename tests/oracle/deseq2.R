# DESeq2's own numbers (Love et al. 2014, Genome Biology 15:550) for one table of donor sums.
# Rscript deseq2.R counts.tsv samples.tsv wald.tsv lrt.tsv samples_out.tsv fit.tsv
# counts: genes x samples, already filtered; samples: sample, age (years), sex.
# wald: slope of age per decade in ~ age10 + sex; lrt: ~ bs(age10, df = 3) + sex against ~ sex.
# DESeq2's defaults (Cook's distances, independent filtering) at alpha = 0.05.
suppressPackageStartupMessages({
  library(DESeq2)
  library(splines)
})
paths <- commandArgs(trailingOnly = TRUE)
counts <- as.matrix(read.delim(paths[1], row.names = 1, check.names = FALSE))
samples <- read.delim(paths[2], row.names = 1, stringsAsFactors = TRUE)
stopifnot(identical(colnames(counts), rownames(samples)))
samples$age10 <- (samples$age - mean(samples$age)) / 10

save <- function(table, path) write.table(table, path, sep = "\t", quote = FALSE, row.names = FALSE)
dispersions_of <- function(data, converged) {
  as.data.frame(mcols(data)[c("dispGeneEst", "dispFit", "dispersion", "dispOutlier", converged)])
}

wald <- DESeq(DESeqDataSetFromMatrix(counts, samples, ~ age10 + sex), quiet = TRUE)
slope <- results(wald, name = "age10", alpha = 0.05)
save(data.frame(gene_id = rownames(counts), slope, dispersions_of(wald, "betaConv")), paths[3])

curve <- DESeqDataSetFromMatrix(counts, samples, ~ bs(age10, df = 3) + sex)
curve <- DESeq(curve, test = "LRT", reduced = ~ sex, quiet = TRUE)
joint <- results(curve, alpha = 0.05)[c("stat", "pvalue", "padj")]
save(data.frame(gene_id = rownames(counts), joint, dispersions_of(curve, "fullBetaConv")), paths[4])

basis <- bs(samples$age10, df = 3)
save(
  data.frame(
    sample = colnames(counts), size_factor = sizeFactors(wald),
    bs1 = basis[, 1], bs2 = basis[, 2], bs3 = basis[, 3]
  ),
  paths[5]
)

# How the fits went, so that a difference can be traced to its step.
fit_of <- function(data, result) {
  trend <- dispersionFunction(data)
  c(
    fit_type = attr(trend, "fitType"),
    asymptotic_dispersion = attr(trend, "coefficients")[["asymptDisp"]],
    extra_poisson = attr(trend, "coefficients")[["extraPois"]],
    dispersion_prior_variance = attr(trend, "dispPriorVar"),
    samples_replaceable = sum(data$replaceable),
    filter_threshold = metadata(result)$filterThreshold[[1]]
  )
}
fits <- list(wald = fit_of(wald, slope), lrt = fit_of(curve, results(curve, alpha = 0.05)))
save(
  data.frame(test = rep(names(fits), lengths(fits)), name = unlist(lapply(fits, names)), value = unlist(fits)),
  paths[6]
)
