# edgeR's gene filter (Chen et al. 2016, F1000Research 5:1438) without groups, by the design ~ age + sex.
# Rscript edger.R counts.tsv samples.tsv genes_out.tsv numbers_out.tsv
# counts: genes x samples, unfiltered; samples: sample, age (years), sex.
# The numbers on the way are those of filterByExpr.default; the last line checks that they give its answer.
suppressPackageStartupMessages(library(edgeR))
paths <- commandArgs(trailingOnly = TRUE)
counts <- as.matrix(read.delim(paths[1], row.names = 1, check.names = FALSE))
samples <- read.delim(paths[2], row.names = 1, stringsAsFactors = TRUE)
stopifnot(identical(colnames(counts), rownames(samples)))
design <- model.matrix(~ age + sex, samples)

keep <- filterByExpr(counts, design, min.count = 10, min.total.count = 15, large.n = 10, min.prop = 0.7)

effective <- 1 / max(hat(design)) # samples behind the worst-determined fitted value
needed <- if (effective > 10) 10 + (effective - 10) * 0.7 else effective
cutoff <- 10 / median(colSums(counts)) * 1e6
above <- rowSums(cpm(counts) >= cutoff)
stopifnot(identical(keep, above >= needed - 1e-14 & rowSums(counts) >= 15 - 1e-14))

save <- function(table, path) write.table(table, path, sep = "\t", quote = FALSE, row.names = FALSE)
save(data.frame(gene_id = rownames(counts), samples_above = above, keep = keep), paths[3])
save(
  data.frame(
    name = c("effective_samples", "samples_needed", "median_library_size", "cpm_cutoff", "kept"),
    value = c(effective, needed, median(colSums(counts)), cutoff, sum(keep))
  ),
  paths[4]
)
