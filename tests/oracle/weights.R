# limma-voom with weights of samples (Ritchie et al. 2006, Liu et al. 2015) and correlated samples of a donor.
# Rscript weights.R counts.tsv samples.tsv genes_out.tsv numbers_out.tsv samples_out.tsv
# counts: genes x samples; samples: sample, donor, age (years), sex, condition, library. The steps of
# voomWithQualityWeights, with weights by restricted maximum likelihood, which do not depend on the order of
# genes as those of the default do; the default's are kept beside them. Twice, with the correlation between.
suppressPackageStartupMessages(library(limma))
paths <- commandArgs(trailingOnly = TRUE)
counts <- as.matrix(read.delim(paths[1], row.names = 1, check.names = FALSE))
samples <- read.delim(paths[2], row.names = 1, stringsAsFactors = TRUE)
stopifnot(identical(colnames(counts), rownames(samples)))
design <- model.matrix(~ age + sex + condition, samples)

weigh <- function(object) arrayWeights(object, design, method = "reml", tol = 1e-16, maxiter = 200L)
round_of <- function(...) {
  own <- weigh(voom(counts, design, lib.size = samples$library, ...))
  trend <- voom(counts, design, lib.size = samples$library, weights = own, ...)
  own <- weigh(trend)
  combined <- trend
  combined$weights <- t(own * t(trend$weights))
  list(y = combined, own = own, trend = trend)
}
one <- round_of()
alone <- eBayes(lmFit(one$y, design))
first <- duplicateCorrelation(one$y, design, block = samples$donor)
two <- round_of(block = samples$donor, correlation = first$consensus)
second <- duplicateCorrelation(two$y, design, block = samples$donor)
fit <- eBayes(lmFit(two$y, design, block = samples$donor, correlation = second$consensus))

save <- function(table, path) write.table(table, path, sep = "\t", quote = FALSE, row.names = FALSE)
genes <- data.frame(gene_id = rownames(counts))
for (way in c("alone", "block")) {
  own <- if (way == "alone") alone else fit
  genes[[paste0(way, "_effect")]] <- own$coefficients[, "age"]
  genes[[paste0(way, "_se")]] <- own$stdev.unscaled[, "age"] * sqrt(own$s2.post)
  genes[[paste0(way, "_t")]] <- own$t[, "age"]
  genes[[paste0(way, "_p")]] <- own$p.value[, "age"]
}
save(genes, paths[3])
save(data.frame(name = "correlation", value = second$consensus), paths[4])
quick <- arrayWeights(one$trend, design, method = "genebygene")
save(
  data.frame(sample = rownames(samples), weight_alone = one$own, weight_block = two$own, weight_default = quick),
  paths[5]
)
