// All cell types of a contrast together: numbers found, effects, shared genes, composition.
const across = async () => ({
  contrast: (await block("meta")).contrasts[chosen("across")],
  ...(await block(`across-${chosen("across")}`)),
});

figures.significant = async (c) => {
  const { contrast } = await across();
  const y = ticks(
    contrast.status.map((row) => row.label),
    contrast.status.map((row) => row.samples_used),
  );
  const bar = (name, key, color) => ({
    type: "bar",
    orientation: "h",
    name,
    y,
    x: contrast.status.map((row) => row[key] ?? 0),
    marker: { color },
    hovertemplate: `%{x:,} genes ${name}<extra></extra>`,
  });
  return {
    data: contrast.joint
      ? [bar("changed", "significant", c.up)]
      : [bar("down", "down", c.down), bar("up", "up", c.up)],
    layout: {
      barmode: "stack",
      yaxis: { autorange: "reversed" },
      xaxis: { title: `genes at FDR ${num(contrast.fdr)}`, rangemode: "tozero" },
      showlegend: true,
    },
    height: 130 + 28 * y.length,
    subtitle: contrast.name,
    said: "n: samples.",
    table: {
      columns: ["cell_type", "samples_used", "genes_tested", "up", "down", "significant"],
      rows: contrast.status.map((row) =>
        ["label", "samples_used", "genes_tested", "up", "down", "significant"].map((key) => row[key]),
      ),
    },
  };
};

figures.heatmap = async (c) => {
  const { contrast, heatmap, all, fdr } = await across();
  if (!heatmap) return { none: "No gene is significant over all tests of this contrast." };
  const x = ticks(heatmap.types),
    y = ticks(heatmap.genes, null, narrow() ? 12 : 24);
  const flat = heatmap.values
    .flat()
    .filter((v) => v !== null)
    .map(Math.abs)
    .sort((a, b) => a - b);
  const end = flat[Math.floor(0.98 * (flat.length - 1))] || 1;
  const dots = heatmap.padj
    .flatMap((row, i) => row.map((q, k) => [q, i, k]))
    .filter(([q]) => q !== null && q < fdr);
  return {
    data: [
      {
        type: "heatmap",
        x,
        y,
        z: heatmap.values,
        customdata: heatmap.padj,
        zmin: heatmap.joint ? 0 : -end,
        zmax: end,
        colorscale: heatmap.joint
          ? "Cividis"
          : [
              [0, "#0072B2"],
              [0.5, "#f7f7f7"],
              [1, "#D55E00"],
            ],
        hoverongaps: false,
        xgap: 1,
        ygap: 1,
        colorbar: {
          title: {
            text: heatmap.joint ? "−log10 p-value" : text(`log2 fold change, ${contrast.effect}`),
            side: "right",
          },
          thickness: 14,
        },
        hovertemplate: "%{y}, %{x}<br>%{z:.3g}, FDR over all %{customdata:.2g}<extra></extra>",
      },
      {
        type: "scatter",
        mode: "markers",
        x: dots.map(([, , k]) => x[k]),
        y: dots.map(([, i]) => y[i]),
        marker: { color: "#111", size: 4 },
        hoverinfo: "skip",
        showlegend: false,
      },
    ],
    layout: {
      plot_bgcolor: c.none,
      xaxis: { type: "category", tickangle: -40, showgrid: false, range: [-0.5, x.length - 0.5] },
      yaxis: { type: "category", range: [y.length - 0.5, -0.5], showgrid: false },
      margin: { l: 10, r: 10, t: 12, b: 20 },
    },
    height: 190 + 17 * y.length,
    subtitle: contrast.name,
    said: `${y.length} of ${count(all)} genes tested anywhere; dots: FDR over all tests below ${num(fdr)}; colours end at ${heatmap.joint ? "" : "±"}${num(end)}, the 98 % quantile.`,
    table: {
      columns: ["gene", ...heatmap.types],
      rows: heatmap.genes.map((gene, i) => [gene, ...heatmap.values[i]]),
    },
  };
};

async function sharedGrid() {
  const { genes, all, patterns } = await across();
  const columns = [
    { title: "Gene", kind: "text" },
    { title: "Id", kind: "text" },
    { title: "Pattern", kind: "text" },
    { title: "Significant in", kind: "number", show: count },
    { title: "up", kind: "number", show: count },
    { title: "down", kind: "number", show: count },
    { title: "Tested in", kind: "number", show: count },
    { title: "Cell types", kind: "text", wide: true },
  ];
  const rows = genes.symbol.map((symbol, i) => [
    symbol,
    genes.gene_id[i],
    genes.pattern[i],
    genes.significant?.[i] ?? null,
    genes.up[i],
    genes.down[i],
    genes.tested[i],
    (genes.cell_types[i] ?? "").replaceAll(";", "; "),
  ]);
  grid("shared", columns, rows);
  $("[data-said='shared']").textContent =
    `In the page: ${count(rows.length)} of ${count(all)} genes; ${count(patterns.none ?? 0)} that are significant in no type are in the file only. ${Object.entries(
      patterns,
    )
      .map(([name, n]) => `${name}: ${count(n)}`)
      .join(", ")}.`;
}

const ODDS_TICKS = [0.01, 0.03, 0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 3, 5, 10, 30, 100];
const ODDS = { tickvals: ODDS_TICKS, ticktext: ODDS_TICKS.map(String) };

figures.composition = async (c) => {
  const { contrast, composition, composition_status: status } = await across();
  const rows = composition.cell_type.map((_, i) => i).filter((i) => composition.odds_ratio[i] !== null);
  const names = ticks(composition.cell_type, composition.samples);
  const columns = Object.keys(composition);
  const table = {
    columns,
    rows: composition.cell_type.map((_, i) => columns.map((key) => composition[key][i])),
  };
  if (!rows.length)
    return {
      none: composition.pvalue.some((p) => p !== null)
        ? "Several coefficients are tested together: there is no single odds ratio; p-values are in the table composition."
        : untested(status),
      table,
    };
  const sure = (i) => composition.padj[i] !== null && composition.padj[i] < 0.05;
  return {
    data: [true, false].map((yes) => {
      const mine = rows.filter((i) => sure(i) === yes);
      return {
        type: "scatter",
        mode: "markers",
        name: yes ? "FDR < 0.05" : "FDR not below 0.05",
        x: mine.map((i) => composition.odds_ratio[i]),
        y: mine.map((i) => names[i]),
        error_x: {
          type: "data",
          symmetric: false,
          array: mine.map((i) => composition.high[i] - composition.odds_ratio[i]),
          arrayminus: mine.map((i) => composition.odds_ratio[i] - composition.low[i]),
          color: yes ? c.up : c.soft,
        },
        marker: { size: 9, color: yes ? c.up : c.soft, symbol: yes ? "circle" : "circle-open" },
        text: mine.map(
          (i) =>
            `odds ratio ${num(composition.odds_ratio[i])} [${num(composition.low[i])}, ${num(composition.high[i])}], FDR ${num(composition.padj[i])}`,
        ),
        hovertemplate: "%{text}<extra></extra>",
      };
    }),
    layout: {
      xaxis: { type: "log", title: text(`odds ratio, ${contrast.effect}`), ...ODDS },
      yaxis: {
        type: "category",
        categoryorder: "array",
        categoryarray: rows.map((i) => names[i]).reverse(),
      },
      shapes: [
        {
          type: "line",
          x0: 1,
          x1: 1,
          y0: 0,
          y1: 1,
          yref: "paper",
          line: { color: c.ink, width: 1, dash: "dash" },
        },
      ],
      showlegend: true,
    },
    height: 150 + 30 * rows.length,
    subtitle: contrast.name,
    said: `n: samples; ${count(status.samples_used)} in the test.`,
    table,
  };
};
