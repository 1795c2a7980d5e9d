"use strict";
// One cell type at a time: table, volcano, samples, p-values, gene sets; then all cell types together.

const state = { contrast: 0, type: 0, gene: null };
const TINY = 1e-300; // smaller p-values are drawn here

const webgl = (() => {
  try {
    return Boolean(document.createElement("canvas").getContext("webgl"));
  } catch {
    return false;
  }
})();

async function current() {
  const { contrasts } = await block("meta");
  const contrast = contrasts[state.contrast];
  const de = await block(`de-${state.contrast}-${state.type}`);
  const genes = await block("genes");
  return { contrast, status: contrast.status[state.type], de, symbol: (i) => genes.symbol[de.gene[i]], id: (i) => genes.id[de.gene[i]] };
}

const effectTitle = (contrast) => `${contrast.joint ? "largest log2 difference between samples" : "log2 fold change"}, ${contrast.effect}`;
const untested = (status) => `Not tested: ${words(status.status)}. ${status.message ?? ""}`;

figures.volcano = async (c) => {
  const { contrast, status, de, symbol } = await current();
  if (status.status !== "tested") return { none: untested(status) };
  const x = de.lfc, y = de.p.map((p) => (p === null ? null : -Math.log10(Math.max(p, TINY))));
  const all = x.map((_, i) => i).filter((i) => y[i] !== null && x[i] !== null);
  const found = (i) => de.q[i] !== null && de.q[i] < contrast.fdr;
  const kinds = contrast.joint
    ? [["not significant", c.rest, (i) => !found(i), "circle"], ["significant", c.up, found, "circle"]]
    : [["not significant", c.rest, (i) => !found(i), "circle"], ["down", c.down, (i) => found(i) && x[i] < 0, "triangle-down"], ["up", c.up, (i) => found(i) && x[i] >= 0, "triangle-up"]];
  const type = webgl && all.length > 2000 ? "scattergl" : "scatter";
  const data = kinds.map(([name, color, test, symbolOf]) => {
    const rows = all.filter(test);
    return { type, mode: "markers", name: `${name} (${count(rows.length)})`, x: rows.map((i) => x[i]), y: rows.map((i) => y[i]), customdata: rows,
      text: rows.map((i) => `${short(symbol(i))}<br>effect ${num(x[i])}<br>p ${num(de.p[i])}, FDR ${num(de.q[i])}`), hovertemplate: "%{text}<extra></extra>",
      marker: { color, size: name === "not significant" ? 4 : 7, symbol: symbolOf, opacity: name === "not significant" ? 0.6 : 0.9 } };
  });
  const best = apart(all.filter(found).slice(0, 30), x, y, all);
  data.push({ type: "scatter", mode: "text", showlegend: false, x: best.map((i) => x[i]), y: best.map((i) => y[i]), text: best.map((i) => short(symbol(i), 14)), textposition: "top center", textfont: { size: 10, color: c.ink }, hoverinfo: "skip", cliponaxis: false });
  const layout = { xaxis: { title: text(effectTitle(contrast)) }, yaxis: { title: "−log10 p-value", rangemode: "tozero" }, showlegend: true, hovermode: "closest" };
  if (state.gene !== null && y[state.gene] !== null) {
    const i = state.gene;
    data.push({ type: "scatter", mode: "markers", showlegend: false, x: [x[i]], y: [y[i]], hoverinfo: "skip", marker: { symbol: "circle-open", size: 17, line: { width: 3, color: c.mark }, color: c.mark } });
    layout.annotations = [{ x: x[i], y: y[i], text: `<b>${short(symbol(i), 20)}</b>`, font: { size: 13 }, arrowcolor: c.ink, bgcolor: c.paper, bordercolor: c.soft, ax: x[i] > 0 ? -40 : 40, ay: -30 }];
  }
  return {
    data, layout, subtitle: `${contrast.name}, ${status.label}`,
    said: `n = ${count(all.length)} genes, ${plural(status.samples_used, "sample")}; ${count(x.length - all.length)} tested genes without p-value are not drawn. FDR ${num(contrast.fdr)}.`,
    table: tables.genes,
    click: (point) => point.customdata !== undefined && selectGene(point.customdata, "volcano"),
  };
};

// The first genes whose names do not lie on top of each other.
function apart(rows, x, y, all) {
  const wide = (values) => all.reduce(([a, b], i) => [Math.min(a, values[i]), Math.max(b, values[i])], [0, 0]).reduce((a, b) => b - a) || 1;
  const [dx, dy] = [0.17 * wide(x), 0.07 * wide(y)];
  const taken = [];
  for (const i of rows) {
    if (taken.length < 8 && taken.every((k) => Math.abs(x[i] - x[k]) > dx || Math.abs(y[i] - y[k]) > dy)) taken.push(i);
  }
  return taken;
}

async function genesGrid() {
  const { contrast, status, de, symbol, id } = await current();
  const what = contrast.joint ? "Range, log2" : "Effect, log2";
  const columns = [{ title: "Gene", kind: "gene" }, { title: "Id", kind: "text" }, { title: what, kind: "number" }];
  if (!contrast.joint) columns.push({ title: "95 % from", kind: "number" }, { title: "to", kind: "number" });
  columns.push({ title: "FDR", kind: "number" }, { title: "p-value", kind: "number" }, { title: "Mean count", kind: "number" });
  const rows = de.gene.map((_, i) => {
    const low = de.se && de.lfc[i] !== null && de.se[i] !== null ? [de.lfc[i] - 1.96 * de.se[i], de.lfc[i] + 1.96 * de.se[i]] : [null, null];
    return [symbol(i), id(i), de.lfc[i], ...(contrast.joint ? [] : low), de.q[i], de.p[i], de.mean[i]];
  });
  grid("genes", columns, rows, { onDraw: markRow });
  $("[data-said='genes']").textContent = status.status === "tested"
    ? `${count(rows.length)} genes in ${status.label}, in the order of p. ${contrast.joint ? "Range" : "Effect"}: ${effectTitle(contrast)}. FDR: within the cell type; – where the gene is filtered out or has no p-value.`
    : untested(status);
}

function markRow() {
  const table = grids.genes;
  if (!table) return;
  for (const tr of $$("#table-genes tbody tr")) {
    const on = table.row(tr).index() === state.gene;
    tr.classList.toggle("chosen", on);
    tr.setAttribute("aria-selected", String(on));
  }
}

// from: where the gene was selected; the table then turns to its page, the figure marks it
async function selectGene(i, from) {
  state.gene = i;
  if (from !== "table") {
    const table = grids.genes;
    const all = () => table.rows({ order: "applied", search: "applied" }).indexes().toArray();
    if (!all().includes(i)) table.search("").draw();
    table.page(Math.floor(all().indexOf(i) / table.page.len())).draw("page");
  }
  markRow();
  await redraw("volcano", "gene");
}

figures.gene = async (c) => {
  const { contrast, status, de, symbol, id } = await current();
  if (status.status !== "tested") return { none: untested(status) };
  const i = state.gene ?? 0;
  const { covariates, samples, genes } = await block("meta");
  const values = await block(`samples-${state.contrast}-${state.type}`);
  const title = `${symbol(i)} in ${status.label}`;
  const row = values ? values.genes.indexOf(de.gene[i]) : -1;
  if (row < 0) return { title, none: `${symbol(i)} is not among the ${genes} genes with the smallest p-values of this cell type, whose values are in this page; those of all genes are in sums.h5ad.` };
  const tested = Object.keys(covariates).find((name) => new RegExp(`\\b${name}\\b`).test(contrast.test)) ?? Object.keys(covariates)[0];
  const second = secondCovariate(covariates, tested);
  const place = values.samples.map((sample) => samples.sample.indexOf(sample));
  const x = place.map((k) => samples[tested][k]), group = second && place.map((k) => samples[second][k]);
  const y = values.counts[row].map((n, k) => n / values.factors[k]);
  const made = againstCovariate({ x, kind: covariates[tested], y: y.map((v) => v + 0.5), group, c,
    hover: (k) => text(`${values.samples[k]}: ${num(y[k])} normalised (${values.counts[row][k]} counts), ${tested} ${x[k]}${second ? `, ${group[k]}` : ""}`) });
  return {
    title, data: made.data, layout: { xaxis: { title: text(tested), ...made.axis }, yaxis: { title: "normalised counts + 0.5 (log scale)", type: "log", dtick: "D2", tickformat: "~s" }, showlegend: true },
    subtitle: `${id(i)}, ${contrast.name}`, said: `${id(i)}; n = ${plural(made.n, "sample")}; effect ${num(de.lfc[i])} (${effectTitle(contrast)}), FDR ${num(de.q[i])}.`,
    table: { columns: ["sample", tested, ...(second ? [second] : []), "counts", "size_factor"], rows: values.samples.map((sample, k) => [sample, x[k], ...(second ? [group[k]] : []), values.counts[row][k], values.factors[k]]) },
  };
};

figures.pvalues = async (c) => {
  const { contrast, status, de } = await current();
  if (status.status !== "tested") return { none: untested(status) };
  const n = de.histogram.reduce((a, b) => a + b, 0), bins = de.histogram.length;
  return {
    data: [{ type: "bar", x: de.histogram.map((_, i) => (i + 0.5) / bins), y: de.histogram, width: 1 / bins, marker: { color: c.down, line: { color: c.paper, width: 1 } }, hovertemplate: "%{y:,} genes<extra></extra>", showlegend: false }],
    layout: { bargap: 0, xaxis: { title: "p-value", range: [0, 1] }, yaxis: { title: "genes" }, shapes: [{ type: "line", x0: 0, x1: 1, y0: n / bins, y1: n / bins, line: { dash: "dash", color: c.ink, width: 1.5 } }] },
    subtitle: `${contrast.name}, ${status.label}`, said: `n = ${count(n)} genes.`,
    table: { columns: ["from", "to", "genes"], rows: de.histogram.map((genes, i) => [i / bins, (i + 1) / bins, genes]) },
  };
};

async function diagnostics() {
  const { status } = await current();
  const facts = { Samples: `${count(status.samples_used)} used of ${count(status.samples)}`, Genes: `${count(status.genes_tested)} tested of ${count(status.genes)}`, "Residual degrees of freedom": count(status.residual_df),
    "Variance inflation of the effect": num(status.vif), "Size factors": status.size_factors, "Trend of dispersions": status.trend, "Filter on mean count": num(status.filter_threshold),
    "Genes without p-value": count(status.without_pvalue), "Fits not converged": count(status.not_converged), Note: status.message };
  const list = $("#diagnostics");
  list.replaceChildren();
  for (const [name, value] of Object.entries(facts)) {
    if (value === null || value === undefined || value === "") continue;
    const term = document.createElement("dt"), said = document.createElement("dd");
    term.textContent = name;
    said.textContent = value;
    list.append(term, said);
  }
}

const setsBlock = () => block(`sets-${state.contrast}-${state.type}`);

figures.sets = async (c) => {
  const { contrast, status } = await current();
  const sets = await setsBlock();
  if (!sets?.term.length) return { none: contrast.joint ? "Several coefficients are tested together: there is no sign to rank genes by." : "No gene set was tested in this cell type." };
  const top = sets.term.map((_, i) => i).filter((i) => sets.nes[i] !== null).slice(0, 20).sort((a, b) => sets.nes[a] - sets.nes[b]);
  const sure = (i) => sets.fdr[i] !== null && sets.fdr[i] < contrast.gsea_fdr;
  return {
    data: [{ type: "bar", orientation: "h", y: top.map((i) => short(words(sets.term[i]), narrow() ? 22 : 44)), x: top.map((i) => sets.nes[i]), showlegend: false,
      marker: { color: top.map((i) => (sets.nes[i] > 0 ? c.up : c.down)), opacity: top.map((i) => (sure(i) ? 1 : 0.35)) },
      text: top.map((i) => text(`${sets.term[i]}: NES ${num(sets.nes[i])}, FDR ${num(sets.fdr[i])}, ${sets.matched[i]} genes`)), textposition: "none", hovertemplate: "%{text}<extra></extra>" }],
    layout: { xaxis: { title: "normalised enrichment score" }, yaxis: { type: "category" }, margin: { l: 10, r: 15, t: 12, b: 45 } },
    height: 110 + 22 * top.length, subtitle: `${contrast.name}, ${status.label}`,
    said: `The ${top.length} sets with the smallest FDR of ${count(sets.all)}; pale: FDR not below ${num(contrast.gsea_fdr)}. n = genes tested in the set.`, table: tables.sets,
  };
};

async function setsGrid() {
  const sets = await setsBlock();
  $("#sets").hidden = sets === null;
  if (sets === null) return;
  const columns = [{ title: "Set", kind: "text" }, { title: "NES", kind: "number" }, { title: "FDR", kind: "number" }, { title: "p-value", kind: "number" }, { title: "Genes tested", kind: "number", show: count }, { title: "Leading edge", kind: "text", wide: true }, { title: "Collection", kind: "text" }];
  const rows = sets.term.map((term, i) => [words(term), sets.nes[i], sets.fdr[i], sets.pvalue[i], sets.matched[i], (sets.leading_edge[i] ?? "").replaceAll(";", ", "), sets.collection[i]]);
  grid("sets", columns, rows, { page: 10 });
  $("[data-said='sets']:not(figcaption *)").textContent = rows.length < sets.all ? `${count(rows.length)} of ${count(sets.all)} sets are in the page, those with the smallest FDR.` : `All ${count(sets.all)} sets are in the page.`;
}

async function showType() {
  state.gene = null;
  const { status } = await current();
  $("#type-status").textContent = status.status === "tested" ? `${status.label}: ${plural(status.samples_used, "sample")}, ${count(status.genes_tested)} genes tested.` : `${status.label}: ${untested(status)}`;
  await Promise.all([genesGrid(), setsGrid(), diagnostics()]);
  await redraw("volcano", "gene", "pvalues", "sets");
}

// --- all cell types ------------------------------------------------------------------------------------------
const across = async () => ({ contrast: (await block("meta")).contrasts[chosen("across")], ...(await block(`across-${chosen("across")}`)) });

figures.significant = async (c) => {
  const { contrast } = await across();
  const y = contrast.status.map((row) => tick(row.label, row.samples_used));
  const bar = (name, key, color) => ({ type: "bar", orientation: "h", name, y, x: contrast.status.map((row) => row[key] ?? 0), marker: { color }, hovertemplate: `%{x:,} genes ${name}<extra></extra>` });
  return {
    data: contrast.joint ? [bar("changed", "significant", c.up)] : [bar("down", "down", c.down), bar("up", "up", c.up)],
    layout: { barmode: "stack", yaxis: { autorange: "reversed" }, xaxis: { title: `genes at FDR ${num(contrast.fdr)}`, rangemode: "tozero" }, showlegend: true },
    height: 130 + 28 * y.length, subtitle: contrast.name, said: "n: samples.",
    table: { columns: ["cell_type", "samples_used", "genes_tested", "up", "down", "significant"], rows: contrast.status.map((row) => ["label", "samples_used", "genes_tested", "up", "down", "significant"].map((key) => row[key])) },
  };
};

figures.heatmap = async (c) => {
  const { contrast, heatmap, all } = await across();
  if (!heatmap) return { none: "No gene is significant over all tests of this contrast." };
  const x = heatmap.types.map((type) => tick(type)), y = heatmap.genes.map((gene) => short(gene, narrow() ? 12 : 24));
  const flat = heatmap.values.flat().filter((v) => v !== null).map(Math.abs).sort((a, b) => a - b);
  const end = flat[Math.floor(0.98 * (flat.length - 1))] || 1;
  const dots = heatmap.padj.flatMap((row, i) => row.map((q, k) => [q, i, k])).filter(([q]) => q !== null && q < 0.05);
  return {
    data: [
      { type: "heatmap", x, y, z: heatmap.values, customdata: heatmap.padj, zmin: heatmap.joint ? 0 : -end, zmax: end, colorscale: heatmap.joint ? "Cividis" : [[0, "#0072B2"], [0.5, "#f7f7f7"], [1, "#D55E00"]], hoverongaps: false, xgap: 1, ygap: 1,
        colorbar: { title: { text: heatmap.joint ? "−log10 p-value" : text(`log2 fold change, ${contrast.effect}`), side: "right" }, thickness: 14 }, hovertemplate: "%{y}, %{x}<br>%{z:.3g}, FDR over all %{customdata:.2g}<extra></extra>" },
      { type: "scatter", mode: "markers", x: dots.map(([, , k]) => x[k]), y: dots.map(([, i]) => y[i]), marker: { color: "#111", size: 4 }, hoverinfo: "skip", showlegend: false },
    ],
    layout: { plot_bgcolor: c.none, xaxis: { type: "category", tickangle: -40, showgrid: false, range: [-0.5, x.length - 0.5] }, yaxis: { type: "category", range: [y.length - 0.5, -0.5], showgrid: false }, margin: { l: 10, r: 10, t: 12, b: 20 } },
    height: 190 + 17 * y.length, subtitle: contrast.name,
    said: `${y.length} of ${count(all)} genes tested anywhere; colours end at ${heatmap.joint ? "" : "±"}${num(end)}, the 98 % quantile.`,
    table: { columns: ["gene", ...heatmap.types], rows: heatmap.genes.map((gene, i) => [gene, ...heatmap.values[i]]) },
  };
};

async function sharedGrid() {
  const { genes, all, patterns } = await across();
  const columns = [{ title: "Gene", kind: "text" }, { title: "Id", kind: "text" }, { title: "Pattern", kind: "text" }, { title: "Significant in", kind: "number", show: count }, { title: "up", kind: "number", show: count }, { title: "down", kind: "number", show: count }, { title: "Tested in", kind: "number", show: count }, { title: "Cell types", kind: "text", wide: true }];
  const rows = genes.symbol.map((symbol, i) => [symbol, genes.gene_id[i], genes.pattern[i], genes.significant?.[i] ?? null, genes.up[i], genes.down[i], genes.tested[i], (genes.cell_types[i] ?? "").replaceAll(";", "; ")]);
  grid("shared", columns, rows);
  $("[data-said='shared']").textContent = `In the page: ${count(rows.length)} of ${count(all)} genes; ${count(patterns.none ?? 0)} that are significant in no type are in the file only. ${Object.entries(patterns).map(([name, n]) => `${name}: ${count(n)}`).join(", ")}.`;
}

const ODDS_TICKS = [0.01, 0.03, 0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 3, 5, 10, 30, 100];
const ODDS = { tickvals: ODDS_TICKS, ticktext: ODDS_TICKS.map(String) };

figures.composition = async (c) => {
  const { contrast, composition, composition_status: status } = await across();
  const rows = composition.cell_type.map((_, i) => i).filter((i) => composition.odds_ratio[i] !== null);
  const columns = Object.keys(composition);
  const table = { columns, rows: composition.cell_type.map((_, i) => columns.map((key) => composition[key][i])) };
  if (!rows.length) return { none: composition.cell_type.length ? "Several coefficients are tested together: there is no single odds ratio; p-values are in the table composition." : untested(status), table };
  const sure = (i) => composition.padj[i] !== null && composition.padj[i] < 0.05;
  return {
    data: [true, false].map((yes) => {
      const mine = rows.filter((i) => sure(i) === yes);
      return { type: "scatter", mode: "markers", name: yes ? "FDR < 0.05" : "FDR not below 0.05", x: mine.map((i) => composition.odds_ratio[i]), y: mine.map((i) => tick(composition.cell_type[i], composition.samples[i])),
        error_x: { type: "data", symmetric: false, array: mine.map((i) => composition.high[i] - composition.odds_ratio[i]), arrayminus: mine.map((i) => composition.odds_ratio[i] - composition.low[i]), color: yes ? c.up : c.soft },
        marker: { size: 9, color: yes ? c.up : c.soft, symbol: yes ? "circle" : "circle-open" }, text: mine.map((i) => `odds ratio ${num(composition.odds_ratio[i])} [${num(composition.low[i])}, ${num(composition.high[i])}], FDR ${num(composition.padj[i])}`), hovertemplate: "%{text}<extra></extra>" };
    }),
    layout: { xaxis: { type: "log", title: text(`odds ratio, ${contrast.effect}`), ...ODDS }, yaxis: { type: "category", categoryorder: "array", categoryarray: rows.map((i) => tick(composition.cell_type[i], composition.samples[i])).reverse() },
      shapes: [{ type: "line", x0: 1, x1: 1, y0: 0, y1: 1, yref: "paper", line: { color: c.ink, width: 1, dash: "dash" } }], showlegend: true },
    height: 150 + 30 * rows.length, subtitle: contrast.name, said: `n: samples; ${count(status.samples_used)} in the test.`, table,
  };
};
