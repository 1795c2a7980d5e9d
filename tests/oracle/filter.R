# edgeR's gene filter (Chen et al. 2016, F1000Research 5:1438) for groups and numbers of one cohort.
# Rscript filter.R counts.tsv samples.tsv genes_out.tsv
# counts: genes x samples; samples: sample, donor, half, state, stage, sex, age. A column of TRUE and FALSE for
# each call: by group, by levels without and with other terms, by the cells of a product, by a number.
suppressPackageStartupMessages(library(edgeR))
paths <- commandArgs(trailingOnly = TRUE)
counts <- as.matrix(read.delim(paths[1], row.names = 1, check.names = FALSE))
samples <- read.delim(paths[2], row.names = 1, stringsAsFactors = TRUE)
stopifnot(identical(colnames(counts), rownames(samples)))

by <- function(formula) filterByExpr(counts, model.matrix(formula, samples))
genes <- data.frame(
  gene_id = rownames(counts),
  group_state = filterByExpr(counts, group = samples$state),
  design_state = by(~ state),
  group_stage = filterByExpr(counts, group = samples$stage),
  design_stage = by(~ stage),
  group_half = filterByExpr(counts, group = samples$half),
  cells = by(~ state * sex),
  age = by(~ age)
)
write.table(genes, paths[3], sep = "\t", quote = FALSE, row.names = FALSE)
