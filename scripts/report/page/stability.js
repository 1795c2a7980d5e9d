// How far the answers depend on settings, where a sweep was made.
const stabilityLabel = (s, i) =>
  [s.measure[i], s.contrast[i], s.label[i], s.resolution[i] === null ? "" : s.resolution[i]]
    .filter((part) => part !== null && part !== "")
    .join(" ");

figures.stability = async () => {
  const s = await block("stability");
  const rows = s.variant.map((_, i) => i).filter((i) => s.value[i] !== null && s.measure[i] !== "r2");
  const kinds = [...new Set(rows.map((i) => s.measure[i]))];
  return {
    data: kinds.map((kind, k) => {
      const mine = rows.filter((i) => s.measure[i] === kind);
      return {
        type: "scatter",
        mode: "markers",
        name: words(kind),
        x: mine.map((i) => s.value[i]),
        y: mine.map((i) => short(s.variant[i], 26)),
        marker: { size: 9, opacity: 0.75, symbol: ["circle", "diamond", "square", "cross", "x"][k % 5] },
        text: mine.map((i) => text(`${stabilityLabel(s, i)}: ${num(s.value[i])} (n = ${count(s.n[i])})`)),
        hovertemplate: "%{text}<extra>%{y}</extra>",
      };
    }),
    layout: {
      xaxis: { title: "agreement with the run (1: the same)" },
      yaxis: { type: "category" },
      showlegend: true,
    },
    height: 170 + 40 * new Set(s.variant).size,
    said: `n = ${plural(rows.length, "comparison")}.`,
    table: {
      columns: Object.keys(s),
      rows: s.variant.map((_, i) => Object.keys(s).map((name) => s[name][i])),
    },
  };
};

async function stabilityGrid() {
  const s = await block("stability");
  const columns = [
    { title: "Variant", kind: "text" },
    { title: "Changes", kind: "text", wide: true },
    { title: "Measure", kind: "text" },
    { title: "Value", kind: "number" },
    { title: "n", kind: "number", show: count },
    { title: "Reason", kind: "text" },
  ];
  grid(
    "stability",
    columns,
    s.variant.map((variant, i) => [
      variant,
      s.changes[i],
      stabilityLabel(s, i),
      s.value[i],
      s.n[i],
      s.reason[i],
    ]),
  );
}
