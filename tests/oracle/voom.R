# limma-voom with the samples of a donor correlated (Law et al. 2014, Smyth et al. 2005), two rounds.
# Rscript voom.R counts.tsv samples.tsv genes_out.tsv numbers_out.tsv
# counts: genes x samples, tested genes; samples: sample, donor, age (years), sex, condition, library (size).
# Effects of age per year, of condition stim against ctrl; F of age and sex together by hand, since limma's F
# takes the correlation of coefficients from the fit without weights.
suppressPackageStartupMessages(library(limma))
paths <- commandArgs(trailingOnly = TRUE)
counts <- as.matrix(read.delim(paths[1], row.names = 1, check.names = FALSE))
samples <- read.delim(paths[2], row.names = 1, stringsAsFactors = TRUE)
stopifnot(identical(colnames(counts), rownames(samples)))
design <- model.matrix(~ age + sex + condition, samples)

one <- voom(counts, design, lib.size = samples$library)
first <- duplicateCorrelation(one, design, block = samples$donor)
two <- voom(counts, design, lib.size = samples$library, block = samples$donor, correlation = first$consensus)
second <- duplicateCorrelation(two, design, block = samples$donor)
fit <- eBayes(lmFit(two, design, block = samples$donor, correlation = second$consensus))

save <- function(table, path) write.table(table, path, sep = "\t", quote = FALSE, row.names = FALSE)
genes <- data.frame(gene_id = rownames(counts), weight_first = two$weights[, 1], weight_last = two$weights[, ncol(counts)],
  correlation = tanh(second$atanh.correlations), sigma = fit$sigma)
for (name in c("age", "conditionstim")) {
  genes[[paste0(name, "_effect")]] <- fit$coefficients[, name]
  genes[[paste0(name, "_se")]] <- fit$stdev.unscaled[, name] * sqrt(fit$s2.post)
  genes[[paste0(name, "_t")]] <- fit$t[, name]
  genes[[paste0(name, "_p")]] <- fit$p.value[, name]
}
save(genes, paths[3])
save(
  data.frame(
    name = c("correlation_first", "correlation", "df_residual", "df_prior", "s2_prior"),
    value = c(first$consensus, second$consensus, fit$df.residual[1], fit$df.prior, fit$s2.prior)
  ),
  paths[4]
)
