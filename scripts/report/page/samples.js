// The samples as they are before any test: figures and table.
function samplePictures() {
  for (const place of $$("[data-picture]")) {
    const image = new Image();
    image.src = picture(place.dataset.picture);
    image.alt = place.dataset.title;
    place.append(image);
  }
}

async function samplesGrid() {
  const s = await block("samples");
  const percent = (value) => (value === null ? "–" : `${num(100 * value)} %`);
  const { covariates } = await block("meta");
  const columns = [
    { title: "Sample", kind: "text", key: "sample" },
    { title: "Donor", kind: "text", key: "donor" },
    ...s.covariates.map((name) => ({
      title: words(name),
      kind: covariates[name] === "categorical" ? "text" : "number",
      key: `covariate_${name}`,
    })),
    { title: "Kept cells", kind: "number", show: count, key: "cells" },
    { title: "Lost", kind: "number", show: percent, key: "share_lost" },
    { title: "Doublets", kind: "number", show: count, key: "doublets" },
    { title: "Counts", kind: "number", show: count, key: "counts" },
    { title: "Genes", kind: "number", show: count, key: "genes" },
    { title: "Mitochondrial, %", kind: "number", key: "pct_counts_mt" },
    { title: "Types used", kind: "number", show: count, key: "types_used" },
    { title: "Used in", kind: "text", wide: true, key: "used_in" },
    { title: "Sex shown", kind: "text", key: "sex_shown" },
    { title: "Sex check", kind: "text", key: "sex_check" },
    { title: "Nearest", kind: "text", key: "nearest" },
    { title: "z", kind: "number", key: "nearest_z" },
    { title: "Far out in", kind: "text", wide: true, key: "outlying_in" },
  ];
  const rows = s.sample.map((_, i) => columns.map((column) => s[column.key][i]));
  grid("samples", columns, rows);
}
