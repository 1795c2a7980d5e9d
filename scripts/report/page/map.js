// The map of cells, its clusters and their markers.
figures.umap = async () => {
  const map = await block("map");
  const k = chosen("layer");
  const layer = map.layers[k];
  const data = [],
    annotations = [];
  if (layer.kind === "levels") {
    layer.levels.forEach((level, i) => {
      data.push({
        type: "scatter",
        mode: "markers",
        x: [null],
        y: [null],
        name: text(
          `${layer.total <= 12 ? `${i + 1} ` : ""}${level.label.slice(0, 36)} (${count(level.cells)})`,
        ),
        marker: { color: level.colour, size: 10 },
      });
      if (layer.levels.length <= 12)
        annotations.push({
          x: level.x,
          y: level.y,
          text: String(i + 1),
          showarrow: false,
          font: { size: 13, color: "#000" },
          bgcolor: "rgba(255,255,255,.75)",
          borderpad: 1,
        });
    });
  } else {
    data.push({
      type: "scatter",
      mode: "markers",
      x: [null],
      y: [null],
      showlegend: false,
      marker: {
        color: [layer.low, layer.high],
        cmin: layer.low,
        cmax: layer.high,
        colorscale: "Viridis",
        showscale: true,
        colorbar: { title: { text: text(words(layer.name)), side: "right" }, thickness: 14, len: 0.8 },
      },
    });
  }
  const axis = { range: [0, 1], showgrid: false, zeroline: false, showticklabels: false, ticks: "" };
  const extra =
    layer.kind === "levels" && layer.total > layer.levels.length
      ? ` The legend shows the ${layer.levels.length} largest of ${count(layer.total)}.`
      : "";
  return {
    data,
    layout: {
      annotations,
      images: [
        {
          source: picture(`map-${k}`),
          x: 0,
          y: 1,
          sizex: 1,
          sizey: 1,
          xref: "x",
          yref: "y",
          sizing: "stretch",
          layer: "below",
        },
      ],
      showlegend: layer.kind === "levels",
      xaxis: { ...axis, title: "UMAP 1", constrain: "domain" },
      yaxis: { ...axis, title: "UMAP 2", scaleanchor: "x", constrain: "domain" },
      margin: { l: 35, r: 15, t: 12, b: 35 },
      legend: narrow()
        ? { orientation: "h", y: -0.08, font: { size: 10 } }
        : { orientation: "v", x: 1.02, y: 1, font: { size: 11 } },
    },
    height: narrow() && layer.kind === "levels" ? 420 + 20 * layer.levels.length : undefined,
    subtitle: layer.name,
    said: `n = ${count(layer.kind === "numbers" ? layer.cells : map.cells)} cells.${extra}${layer.repeated ? " Colours repeat." : ""}${layer.kind === "numbers" ? ` Colours from the 1 % to the 99 % quantile, ${num(layer.low)} to ${num(layer.high)}.` : ""} Coordinates of each cell are in cohort.h5ad.`,
    table:
      layer.kind === "levels"
        ? { columns: [layer.name, "cells"], rows: layer.levels.map((level) => [level.label, level.cells]) }
        : {
            columns: ["quantile", layer.name],
            rows: [
              ["1 %", layer.low],
              ["99 %", layer.high],
            ],
          },
  };
};

async function clustersOf() {
  const { clusters } = await block("map");
  const names = Object.keys(clusters);
  return { resolution: names[chosen("resolution")], ...clusters[names[chosen("resolution")]] };
}

figures.clusters = async () => {
  const each = await clustersOf();
  const total = each.counts.map((row) => row.reduce((a, b) => a + b, 0));
  const share = each.counts.map((row, i) => row.map((n) => (100 * n) / total[i]));
  return {
    data: [
      {
        type: "heatmap",
        z: share,
        x: ticks(each.types),
        y: each.clusters.map((name, i) => `${text(name)} (n = ${count(total[i])})`),
        customdata: each.counts,
        colorscale: "Cividis",
        zmin: 0,
        zmax: 100,
        colorbar: { title: { text: "% of the cluster", side: "right" }, thickness: 14 },
        hovertemplate: "cluster %{y}<br>%{x}: %{customdata:,} cells, %{z:.1f} %<extra></extra>",
      },
    ],
    layout: {
      xaxis: { title: "label", type: "category", tickangle: -35 },
      yaxis: { title: "cluster", type: "category", autorange: "reversed" },
    },
    height: 190 + 24 * each.clusters.length,
    subtitle: `resolution ${each.resolution}`,
    said: "n: cells of the cluster.",
    table: {
      columns: ["cluster", ...each.types],
      rows: each.clusters.map((name, i) => [name, ...each.counts[i]]),
    },
  };
};

async function markersGrid() {
  const each = await clustersOf();
  const rows = each.clusters.map((name, i) => [
    name,
    each.counts[i].reduce((a, b) => a + b, 0),
    each.types[each.counts[i].indexOf(Math.max(...each.counts[i]))],
    each.markers[name] ?? "too few cells to be tested",
  ]);
  grid(
    "markers",
    [
      { title: "Cluster", kind: "text" },
      { title: "Cells", kind: "number", show: count },
      { title: "Most frequent label", kind: "text" },
      { title: "Markers", kind: "text", wide: true },
    ],
    rows,
  );
}
