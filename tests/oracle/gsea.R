# Gene set enrichment along a ranking, by the definitions of fgseaSimple (Korotkevich et al. 2021, bioRxiv
# 060012; Subramanian et al. 2005, PNAS 102:15545), in base R because Debian has no package of fgsea.
# Rscript gsea.R ranking.tsv sets.gmt min_size max_size permutations seed terms_out.tsv
# ranking: symbol, stat (unique symbols). The null is random sets of the same size.
arguments <- commandArgs(trailingOnly = TRUE)
limits <- as.integer(arguments[3:6])
ranking <- read.delim(arguments[1], quote = "", na.strings = "")
ranking <- ranking[order(-ranking$stat), ]
weight <- abs(ranking$stat)

# Largest deviation from 0 of the running sum: up by |stat| at a member, down by a constant elsewhere.
enrichment <- function(places) {
  steps <- weight[places] / sum(weight[places])
  tops <- cumsum(steps) - (places - seq_along(places)) / (length(weight) - length(places))
  highest <- max(tops)
  lowest <- min(tops - steps)
  if (highest > -lowest) highest else lowest
}

test <- function(set) {
  places <- sort(match(intersect(set[-(1:2)], ranking$symbol), ranking$symbol))
  if (length(places) < limits[1] || length(places) > limits[2]) return(NULL)
  es <- enrichment(places)
  null <- replicate(limits[3], enrichment(sort(sample.int(length(weight), length(places)))))
  same <- null[null * es > 0]
  data.frame(
    term = set[1], size = length(places), es = es, nes = es / abs(mean(same)), same_sign = length(same),
    pvalue = (sum(abs(same) >= abs(es)) + 1) / (length(same) + 1), null_cv = sd(same) / abs(mean(same))
  )
}

set.seed(limits[4])
terms <- do.call(rbind, lapply(strsplit(readLines(arguments[2]), "\t"), test))
write.table(terms, arguments[7], sep = "\t", quote = FALSE, row.names = FALSE)
