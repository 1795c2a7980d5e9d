# limma's empirical-Bayes moderated t (Smyth 2004, SAGMB 3:3) on logit-transformed cell-type proportions.
# Rscript limma.R counts.tsv types_out.tsv prior_out.tsv
# counts: long table case, donor, age (years), sex, cell_type, cells.
# Per case, y = logit((k + 0.5) / (n + 1)) for k of a donor's n cells, and design ~ age + sex.
suppressPackageStartupMessages(library(limma))
paths <- commandArgs(trailingOnly = TRUE)
table <- read.delim(paths[1], colClasses = c(donor = "character"))

moderated <- function(rows) {
  cells <- xtabs(cells ~ cell_type + donor, rows)
  donors <- rows[match(colnames(cells), rows$donor), ]
  others <- sweep(-cells, 2, colSums(cells), "+")
  fit <- eBayes(lmFit(unclass(log((cells + 0.5) / (others + 0.5))), model.matrix(~ age + sex, donors)))
  types <- data.frame(
    case = rows$case[1], cell_type = rownames(cells), sigma = fit$sigma, s2_post = fit$s2.post, df_total = fit$df.total
  )
  for (name in c("age", "sexmale")) {
    types[[paste0(name, "_coefficient")]] <- fit$coefficients[, name]
    types[[paste0(name, "_se")]] <- fit$stdev.unscaled[, name] * sqrt(fit$s2.post)
    types[[paste0(name, "_t")]] <- fit$t[, name]
    types[[paste0(name, "_p")]] <- fit$p.value[, name]
  }
  prior <- data.frame(
    case = rows$case[1], types = nrow(cells), donors = ncol(cells), df_residual = fit$df.residual[1],
    df_prior = fit$df.prior, s2_prior = fit$s2.prior
  )
  list(types = types, prior = prior)
}

results <- lapply(split(table, table$case), moderated)
for (part in c("types", "prior")) {
  joined <- do.call(rbind, lapply(results, `[[`, part))
  write.table(joined, paths[match(part, c("types", "prior")) + 1], sep = "\t", quote = FALSE, row.names = FALSE)
}
