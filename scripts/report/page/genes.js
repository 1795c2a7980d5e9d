// One cell type at a time: table, volcano, samples, p-values, gene sets.

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
  return {
    contrast,
    status: contrast.status[state.type],
    de,
    symbol: (i) => genes.symbol[de.gene[i]],
    id: (i) => genes.id[de.gene[i]],
  };
}

const effectTitle = (contrast) =>
  `${contrast.joint ? "largest log2 difference between samples" : "log2 fold change"}, ${contrast.effect}`;
const untested = (status) => `Not tested: ${words(status.status)}. ${status.message ?? ""}`;

figures.volcano = async (c) => {
  const { contrast, status, de, symbol } = await current();
  if (status.status !== "tested") return { none: untested(status) };
  const x = de.lfc,
    y = de.p.map((p) => (p === null ? null : -Math.log10(Math.max(p, TINY))));
  const all = x.map((_, i) => i).filter((i) => y[i] !== null && x[i] !== null);
  const found = (i) => de.q[i] !== null && de.q[i] < contrast.fdr;
  const kinds = contrast.joint
    ? [
        ["not significant", c.rest, (i) => !found(i), "circle"],
        ["significant", c.up, found, "circle"],
      ]
    : [
        ["not significant", c.rest, (i) => !found(i), "circle"],
        ["down", c.down, (i) => found(i) && x[i] < 0, "triangle-down"],
        ["up", c.up, (i) => found(i) && x[i] >= 0, "triangle-up"],
      ];
  const type = webgl && all.length > 2000 ? "scattergl" : "scatter";
  const data = kinds.map(([name, color, test, symbolOf]) => {
    const rows = all.filter(test);
    return {
      type,
      mode: "markers",
      name: `${name} (${count(rows.length)})`,
      x: rows.map((i) => x[i]),
      y: rows.map((i) => y[i]),
      customdata: rows,
      text: rows.map(
        (i) => `${short(symbol(i))}<br>effect ${num(x[i])}<br>p ${num(de.p[i])}, FDR ${num(de.q[i])}`,
      ),
      hovertemplate: "%{text}<extra></extra>",
      marker: {
        color,
        size: name === "not significant" ? 4 : 7,
        symbol: symbolOf,
        opacity: name === "not significant" ? 0.6 : 0.9,
      },
    };
  });
  const best = apart(all.filter(found).slice(0, 30), x, y, all);
  data.push({
    type: "scatter",
    mode: "text",
    showlegend: false,
    x: best.map((i) => x[i]),
    y: best.map((i) => y[i]),
    text: best.map((i) => short(symbol(i), 14)),
    textposition: "top center",
    textfont: { size: 10, color: c.ink },
    hoverinfo: "skip",
    cliponaxis: false,
  });
  const layout = {
    xaxis: { title: text(effectTitle(contrast)) },
    yaxis: { title: "−log10 p-value", rangemode: "tozero" },
    showlegend: true,
    hovermode: "closest",
  };
  if (state.gene !== null && y[state.gene] !== null) {
    const i = state.gene;
    data.push({
      type: "scatter",
      mode: "markers",
      showlegend: false,
      x: [x[i]],
      y: [y[i]],
      hoverinfo: "skip",
      marker: { symbol: "circle-open", size: 17, line: { width: 3, color: c.mark }, color: c.mark },
    });
    layout.annotations = [
      {
        x: x[i],
        y: y[i],
        text: `<b>${short(symbol(i), 20)}</b>`,
        font: { size: 13 },
        arrowcolor: c.ink,
        bgcolor: c.paper,
        bordercolor: c.soft,
        ax: x[i] > 0 ? -40 : 40,
        ay: -30,
      },
    ];
  }
  return {
    data,
    layout,
    subtitle: `${contrast.name}, ${status.label}`,
    said: `n = ${count(all.length)} genes, ${plural(status.samples_used, "sample")}; ${count(x.length - all.length)} tested genes without p-value are not drawn. FDR ${num(contrast.fdr)}.`,
    table: tables.genes,
    click: (point) => point.customdata !== undefined && selectGene(point.customdata, "volcano"),
  };
};

// The first genes whose names do not lie on top of each other.
function apart(rows, x, y, all) {
  const wide = (values) =>
    all
      .reduce(([a, b], i) => [Math.min(a, values[i]), Math.max(b, values[i])], [0, 0])
      .reduce((a, b) => b - a) || 1;
  const [dx, dy] = [0.17 * wide(x), 0.07 * wide(y)];
  const taken = [];
  for (const i of rows) {
    if (taken.length < 8 && taken.every((k) => Math.abs(x[i] - x[k]) > dx || Math.abs(y[i] - y[k]) > dy))
      taken.push(i);
  }
  return taken;
}

async function genesGrid() {
  const { contrast, status, de, symbol, id } = await current();
  const what = contrast.joint ? "Range, log2" : "Effect, log2";
  const columns = [
    { title: "Gene", kind: "gene" },
    { title: "Id", kind: "text" },
    { title: what, kind: "number" },
  ];
  if (!contrast.joint) columns.push({ title: "95 % from", kind: "number" }, { title: "to", kind: "number" });
  columns.push(
    { title: "FDR", kind: "number" },
    { title: "p-value", kind: "number" },
    { title: "Mean count", kind: "number" },
  );
  const rows = de.gene.map((_, i) => {
    const low =
      de.se && de.lfc[i] !== null && de.se[i] !== null
        ? [de.lfc[i] - 1.96 * de.se[i], de.lfc[i] + 1.96 * de.se[i]]
        : [null, null];
    return [symbol(i), id(i), de.lfc[i], ...(contrast.joint ? [] : low), de.q[i], de.p[i], de.mean[i]];
  });
  grid("genes", columns, rows, { onDraw: markRow });
  $("[data-said='genes']").textContent =
    status.status === "tested"
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
  if (row < 0)
    return {
      title,
      none: `${symbol(i)} is not among the ${genes} genes with the smallest p-values of this cell type, whose values are in this page; those of all genes are in sums.h5ad.`,
    };
  const tested =
    Object.keys(covariates).find((name) => new RegExp(`\\b${name}\\b`).test(contrast.test)) ??
    Object.keys(covariates)[0];
  const second = secondCovariate(covariates, samples, tested);
  const place = values.samples.map((sample) => samples.sample.indexOf(sample));
  const x = place.map((k) => samples[tested][k]),
    group = second && place.map((k) => samples[second][k]);
  const y = values.counts[row].map((n, k) => n / values.factors[k]);
  const made = againstCovariate({
    x,
    kind: covariates[tested],
    y: y.map((v) => v + 0.5),
    group,
    c,
    hover: (k) =>
      text(
        `${values.samples[k]}: ${num(y[k])} normalised (${values.counts[row][k]} counts), ${tested} ${x[k]}${second ? `, ${group[k]}` : ""}`,
      ),
  });
  return {
    title,
    data: made.data,
    layout: {
      xaxis: { title: text(tested), ...made.axis },
      yaxis: { title: "normalised counts + 0.5 (log scale)", type: "log", dtick: "D2", tickformat: "~s" },
      showlegend: true,
    },
    subtitle: `${id(i)}, ${contrast.name}`,
    said: `${id(i)}; n = ${plural(made.n, "sample")}; effect ${num(de.lfc[i])} (${effectTitle(contrast)}), FDR ${num(de.q[i])}.`,
    table: {
      columns: ["sample", tested, ...(second ? [second] : []), "counts", "size_factor"],
      rows: values.samples.map((sample, k) => [
        sample,
        x[k],
        ...(second ? [group[k]] : []),
        values.counts[row][k],
        values.factors[k],
      ]),
    },
  };
};

figures.pvalues = async (c) => {
  const { contrast, status, de } = await current();
  if (status.status !== "tested") return { none: untested(status) };
  const n = de.histogram.reduce((a, b) => a + b, 0),
    bins = de.histogram.length;
  return {
    data: [
      {
        type: "bar",
        x: de.histogram.map((_, i) => (i + 0.5) / bins),
        y: de.histogram,
        width: 1 / bins,
        marker: { color: c.down, line: { color: c.paper, width: 1 } },
        hovertemplate: "%{y:,} genes<extra></extra>",
        showlegend: false,
      },
    ],
    layout: {
      bargap: 0,
      xaxis: { title: "p-value", range: [0, 1] },
      yaxis: { title: "genes" },
      shapes: [
        {
          type: "line",
          x0: 0,
          x1: 1,
          y0: n / bins,
          y1: n / bins,
          line: { dash: "dash", color: c.ink, width: 1.5 },
        },
      ],
    },
    subtitle: `${contrast.name}, ${status.label}`,
    said: `n = ${count(n)} genes.`,
    table: {
      columns: ["from", "to", "genes"],
      rows: de.histogram.map((genes, i) => [i / bins, (i + 1) / bins, genes]),
    },
  };
};

figures.factors = async (c) => {
  const { contrast, status, de } = await current();
  if (!de.factors) return { none: "No hidden factors are looked for here (factors of the contrast)." };
  const { factors, significant, correlation, in_contrast: own } = de.factors;
  const names = ["shared", "correlation", "vif", "variance"];
  return {
    data: [
      {
        type: "scatter",
        mode: "lines+markers+text",
        x: factors,
        y: significant,
        text: correlation.map((r) => (r === null ? "" : num(r))),
        textposition: "top center",
        line: { color: c.ink, width: 1 },
        marker: {
          size: 10,
          color: own.map((yes) => (yes ? c.up : c.paper)),
          line: { color: c.ink, width: 1.5 },
        },
        hovertemplate: "%{x} factors: %{y:,} genes<extra></extra>",
        showlegend: false,
      },
    ],
    layout: {
      xaxis: { title: "hidden factors", dtick: 1 },
      yaxis: { title: `genes at FDR ${contrast.fdr}`, rangemode: "tozero" },
    },
    subtitle: `${contrast.name}, ${status.label}`,
    said: `${plural(factors[own.findIndex(Boolean)] ?? 0, "factor")} in the contrast.`,
    table: {
      columns: ["factors", "significant", ...names],
      rows: factors.map((number, k) => [number, significant[k], ...names.map((name) => de.factors[name][k])]),
    },
  };
};

async function diagnostics() {
  const { status } = await current();
  const facts = {
    Samples: `${count(status.samples_used)} used of ${count(status.samples)}`,
    Genes: `${count(status.genes_tested)} tested of ${count(status.genes)}`,
    "Residual degrees of freedom": count(status.residual_df),
    "Variance inflation of the effect": num(status.vif),
    "Size factors": status.size_factor_genes
      ? `${status.size_factors}, of ${count(status.size_factor_genes)} genes`
      : status.size_factors,
    "Trend of dispersions": status.trend,
    "Filter on mean count": num(status.filter_threshold),
    "Genes without p-value": count(status.without_pvalue),
    "Fits not converged": count(status.not_converged),
    Note: status.message,
  };
  const list = $("#diagnostics");
  list.replaceChildren();
  for (const [name, value] of Object.entries(facts)) {
    if (value === null || value === undefined || value === "") continue;
    const term = document.createElement("dt"),
      said = document.createElement("dd");
    term.textContent = name;
    said.textContent = value;
    list.append(term, said);
  }
}

const setsBlock = () => block(`sets-${state.contrast}-${state.type}`);

figures.sets = async (c) => {
  const { contrast, status } = await current();
  const sets = await setsBlock();
  if (!sets?.term.length)
    return {
      none: contrast.joint
        ? "Several coefficients are tested together: there is no sign to rank genes by."
        : "No gene set was tested in this cell type.",
    };
  const top = sets.term
    .map((_, i) => i)
    .filter((i) => sets.nes[i] !== null)
    .slice(0, 20)
    .sort((a, b) => sets.nes[a] - sets.nes[b]);
  const sure = (i) => sets.fdr[i] !== null && sets.fdr[i] < contrast.gsea_fdr;
  return {
    data: [
      {
        type: "bar",
        orientation: "h",
        y: ticks(
          top.map((i) => words(sets.term[i])),
          null,
          narrow() ? 22 : 44,
        ),
        x: top.map((i) => sets.nes[i]),
        showlegend: false,
        marker: {
          color: top.map((i) => (sets.nes[i] > 0 ? c.up : c.down)),
          opacity: top.map((i) => (sure(i) ? 1 : 0.35)),
        },
        text: top.map((i) =>
          text(`${sets.term[i]}: NES ${num(sets.nes[i])}, FDR ${num(sets.fdr[i])}, ${sets.matched[i]} genes`),
        ),
        textposition: "none",
        hovertemplate: "%{text}<extra></extra>",
      },
    ],
    layout: {
      xaxis: { title: "normalised enrichment score" },
      yaxis: { type: "category" },
      margin: { l: 10, r: 15, t: 12, b: 45 },
    },
    height: 110 + 22 * top.length,
    subtitle: `${contrast.name}, ${status.label}`,
    said: `The ${top.length} sets with the smallest FDR of ${count(sets.all)}; pale: FDR not below ${num(contrast.gsea_fdr)}. n = genes tested in the set.`,
    table: tables.sets,
  };
};

async function setsGrid() {
  const sets = await setsBlock();
  $("#sets").hidden = sets === null;
  if (sets === null) return;
  const columns = [
    { title: "Set", kind: "text" },
    { title: "NES", kind: "number" },
    { title: "FDR", kind: "number" },
    { title: "p-value", kind: "number" },
    { title: "Genes tested", kind: "number", show: count },
    { title: "Leading edge", kind: "text", wide: true },
    { title: "Collection", kind: "text" },
  ];
  const rows = sets.term.map((term, i) => [
    words(term),
    sets.nes[i],
    sets.fdr[i],
    sets.pvalue[i],
    sets.matched[i],
    (sets.leading_edge[i] ?? "").replaceAll(";", ", "),
    sets.collection[i],
  ]);
  grid("sets", columns, rows, { page: 10 });
  $("[data-said='sets']:not(figcaption *)").textContent =
    rows.length < sets.all
      ? `${count(rows.length)} of ${count(sets.all)} sets are in the page, those with the smallest FDR.`
      : `All ${count(sets.all)} sets are in the page.`;
}

async function showType() {
  state.gene = null;
  const { status } = await current();
  $("#type-status").textContent =
    status.status === "tested"
      ? `${status.label}: ${plural(status.samples_used, "sample")}, ${count(status.genes_tested)} genes tested.`
      : `${status.label}: ${untested(status)}`;
  await Promise.all([genesGrid(), setsGrid(), diagnostics()]);
  await redraw("volcano", "gene", "pvalues", "factors", "sets");
}
