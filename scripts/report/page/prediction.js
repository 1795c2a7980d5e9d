// How well expression predicts the target.

const predictedType = async () => (await block("prediction")).types[chosen("predicted")];
const withInterval = (values, low, high) => ({
  type: "data",
  symmetric: false,
  array: values.map((v, i) => high[i] - v),
  arrayminus: values.map((v, i) => v - low[i]),
  thickness: 1.3,
});
// The score of a page: AUROC for a target of two levels, otherwise the mean absolute error.
const scoreOf = (summary) =>
  summary.kind === "levels"
    ? { key: "auroc", words: "AUROC", unit: "", best: 1 }
    : { key: "mae", words: "mean absolute error", unit: ` (${summary.target})`, best: -1 };
const noPrediction = (type) => `No prediction: ${words(type.summary.reason ?? type.summary.status)}.`;

figures.gains = async (c) => {
  const types = (await block("prediction")).types.filter((type) => type.summary.status === "predicted");
  if (!types.length) return { none: "No cell type could be predicted." };
  const score = scoreOf(types[0].summary);
  const [gain, gainLow, gainHigh] = ["", "_low", "_high"].map((end) => `gain_${score.key}${end}`);
  const ends = types.flatMap((type) => [0, type.summary[gainLow], type.summary[gainHigh]]);
  const [low, high] = [Math.min(...ends), Math.max(...ends)];
  const span = [low - 0.05 * (high - low), high + 0.05 * (high - low)];
  const names = ticks(
    types.map((type) => type.label),
    types.map((type) => type.summary.samples),
  );
  const nameOf = (row) => names[types.findIndex((type) => type.cell_type === row.cell_type)];
  return {
    data: [true, false].map((yes) => {
      const mine = types.map((type) => type.summary).filter((row) => row.supported === yes);
      return {
        type: "scatter",
        mode: "markers",
        name: yes ? "supported" : "not supported",
        y: mine.map(nameOf),
        x: mine.map((row) => row[gain]),
        error_x: {
          ...withInterval(
            mine.map((row) => row[gain]),
            mine.map((row) => row[gainLow]),
            mine.map((row) => row[gainHigh]),
          ),
          color: yes ? c.kept : c.soft,
        },
        marker: { size: 9, color: yes ? c.kept : c.soft, symbol: yes ? "circle" : "circle-open" },
        text: mine.map((row) =>
          text(`${num(row[gain])} [${num(row[gainLow])}, ${num(row[gainHigh])}] over ${row.best_baseline}`),
        ),
        hovertemplate: "%{text}<extra></extra>",
      };
    }),
    layout: {
      xaxis: {
        title: text(`gain in ${score.key === "mae" ? "error" : score.words}${score.unit}`),
        range: span,
      },
      yaxis: { type: "category", categoryorder: "array", categoryarray: [...names].reverse() },
      showlegend: true,
      shapes: [
        {
          type: "line",
          x0: 0,
          x1: 0,
          y0: 0,
          y1: 1,
          yref: "paper",
          line: { color: c.ink, width: 1, dash: "dash" },
        },
      ],
    },
    height: 150 + 30 * types.length,
    said: "n: samples.",
    table: { columns: Object.keys(types[0].summary), rows: types.map((type) => Object.values(type.summary)) },
  };
};

figures.alphas = async (c) => {
  const type = await predictedType();
  const { summary, scores } = type;
  if (summary.status !== "predicted") return { none: noPrediction(type) };
  const rows = scores.model
    .map((_, i) => i)
    .filter((i) => scores.model[i] === "expression" && scores.alpha[i] !== "chosen")
    .sort((a, b) => scores.alpha[a] - scores.alpha[b]);
  const of = (key) => rows.map((i) => scores[key][i]);
  const baseline = scores.r2[scores.model.indexOf(summary.best_baseline)];
  const line = (y, color, dash) => ({
    type: "line",
    xref: "paper",
    x0: 0,
    x1: 1,
    y0: y,
    y1: y,
    line: { color, width: 2, dash },
  });
  const key = (name, color, dash) => ({
    type: "scatter",
    mode: "lines",
    x: [null],
    y: [null],
    name,
    line: { color, dash },
  });
  return {
    data: [
      {
        type: "scatter",
        mode: "lines+markers",
        name: "one penalty",
        x: rows.map((i) => Number(scores.alpha[i])),
        y: of("r2"),
        error_y: withInterval(of("r2"), of("r2_low"), of("r2_high")),
        marker: { size: 8, color: c.kept },
        line: { color: c.kept },
        hovertemplate: "alpha %{x}: R² %{y:.3f}<extra></extra>",
      },
      key("chosen in each fold", c.kept, "dash"),
      key(text(`best without genes: ${summary.best_baseline}`), c.qc, "solid"),
      key("chance, 90 %", c.soft, "solid"),
    ],
    layout: {
      xaxis: {
        type: "log",
        title: "penalty alpha (log scale)",
        tickvals: rows.map((i) => Number(scores.alpha[i])),
      },
      yaxis: { title: "R² out of fold" },
      showlegend: true,
      shapes: [
        {
          type: "rect",
          xref: "paper",
          x0: 0,
          x1: 1,
          y0: summary.null_r2_low,
          y1: summary.null_r2_high,
          fillcolor: c.soft,
          opacity: 0.2,
          line: { width: 0 },
          layer: "below",
        },
        line(summary.r2, c.kept, "dash"),
        line(baseline, c.qc, "solid"),
      ],
    },
    subtitle: type.label,
    said: `n = ${plural(summary.samples, "sample")} of ${plural(summary.donors, "donor")}.${summary.alpha_edge ? ` The best penalty is the ${summary.alpha_edge} one: the sweep should go on.` : ""}`,
    table: {
      columns: Object.keys(scores),
      rows: scores.model.map((_, i) => Object.keys(scores).map((name) => scores[name][i])),
    },
  };
};

// Predicted probability of the level in the samples of each level, side by side by size.
const levelsFigure = (c, { label, summary, gaps }) => {
  const levels = [summary.reference, summary.level];
  const parts = levels.map((_, observed) =>
    gaps.sample
      .map((_, i) => i)
      .filter((i) => gaps.observed[i] === observed)
      .sort((a, b) => gaps.predicted[a] - gaps.predicted[b]),
  );
  return {
    data: parts.map((part, place) => ({
      type: "scatter",
      mode: "markers",
      name: text(`${summary.target} ${levels[place]}, n = ${part.length}`),
      x: part.map((_, i) => place + (part.length > 1 ? 0.5 * (i / (part.length - 1)) - 0.25 : 0)),
      y: part.map((i) => gaps.predicted[i]),
      marker: { color: place ? c.kept : c.down, size: gaps.sample.length > 300 ? 5 : 7, opacity: 0.75 },
      text: part.map((i) => text(`${gaps.sample[i]}: ${num(gaps.predicted[i])}`)),
      hovertemplate: "%{text}<extra></extra>",
    })),
    layout: {
      xaxis: {
        title: text(`observed ${summary.target}`),
        tickvals: [0, 1],
        ticktext: levels.map((level) => text(level)),
        range: [-0.5, 1.5],
      },
      yaxis: { title: text(`probability of ${summary.level}`), range: [-0.04, 1.04] },
      showlegend: true,
    },
    subtitle: label,
    said: `n = ${plural(gaps.sample.length, "sample")}. AUROC ${num(summary.auroc)} [${num(summary.auroc_low)}, ${num(summary.auroc_high)}], calibration slope ${num(summary.calibration_slope)} [${num(summary.calibration_slope_low)}, ${num(summary.calibration_slope_high)}].`,
    table: {
      columns: ["sample", "donor", "observed", "predicted"],
      rows: gaps.sample.map((sample, i) => [
        sample,
        gaps.donor[i],
        levels[gaps.observed[i]],
        gaps.predicted[i],
      ]),
    },
  };
};

figures.folds = async (c) => {
  const type = await predictedType();
  const { summary, gaps } = type;
  if (summary.status !== "predicted") return { none: noPrediction(type) };
  if (summary.kind === "levels") return levelsFigure(c, type);
  const all = [...gaps.observed, ...gaps.predicted];
  const ends = [Math.min(...all), Math.max(...all)];
  const order = gaps.observed.map((_, i) => i).sort((a, b) => gaps.observed[a] - gaps.observed[b]);
  return {
    data: [
      {
        type: "scatter",
        mode: "lines",
        name: "predicted = observed",
        x: ends,
        y: ends,
        line: { color: c.soft, dash: "dash" },
        hoverinfo: "skip",
      },
      {
        type: "scatter",
        mode: "lines",
        name: "expected: drawn towards the mean",
        x: order.map((i) => gaps.observed[i]),
        y: order.map((i) => gaps.expected[i]),
        line: { color: c.qc },
        hoverinfo: "skip",
      },
      {
        type: "scatter",
        mode: "markers",
        name: "sample",
        x: gaps.observed,
        y: gaps.predicted,
        marker: { color: c.down, size: gaps.sample.length > 300 ? 5 : 7, opacity: 0.75 },
        text: gaps.sample.map((sample, i) =>
          text(`${sample}: ${num(gaps.observed[i])} observed, ${num(gaps.predicted[i])} predicted`),
        ),
        hovertemplate: "%{text}<extra></extra>",
      },
    ],
    layout: {
      xaxis: { title: text(`observed ${summary.target}`) },
      yaxis: { title: text(`predicted ${summary.target}`) },
      showlegend: true,
    },
    subtitle: type.label,
    said: `n = ${plural(gaps.sample.length, "sample")}. R² ${num(summary.r2)} [${num(summary.r2_low)}, ${num(summary.r2_high)}], mean absolute error ${num(summary.mae)} [${num(summary.mae_low)}, ${num(summary.mae_high)}].`,
    table: {
      columns: Object.keys(gaps),
      rows: gaps.sample.map((_, i) => Object.keys(gaps).map((name) => gaps[name][i])),
    },
  };
};

figures.models = async (c) => {
  const type = await predictedType();
  const { summary, scores } = type;
  if (summary.status !== "predicted") return { none: noPrediction(type) };
  const score = scoreOf(summary);
  const rows = scores.model
    .map((_, i) => i)
    .filter((i) => scores.model[i] !== "expression" || scores.alpha[i] === "chosen")
    .sort((a, b) => score.best * (scores[score.key][a] - scores[score.key][b]));
  const of = (end) => rows.map((i) => scores[`${score.key}${end}`][i]);
  return {
    data: [
      {
        type: "scatter",
        mode: "markers",
        x: of(""),
        y: rows.map((i) => text(scores.model[i])),
        error_x: { ...withInterval(of(""), of("_low"), of("_high")), color: c.soft },
        showlegend: false,
        marker: {
          size: 10,
          color: rows.map((i) => (scores.model[i] === "expression" ? c.kept : c.qc)),
          symbol: rows.map((i) => (scores.model[i] === "expression" ? "circle" : "diamond")),
        },
        hovertemplate: "%{y}: %{x:.3g}<extra></extra>",
      },
    ],
    layout: {
      xaxis: {
        title: text(`${score.words}${score.unit}`),
        rangemode: score.key === "mae" ? "tozero" : "normal",
      },
      yaxis: { type: "category" },
    },
    subtitle: type.label,
    said: `n = ${plural(summary.samples, "sample")}. Gain over ${summary.best_baseline}: ${num(summary[`gain_${score.key}`])} [${num(summary[`gain_${score.key}_low`])}, ${num(summary[`gain_${score.key}_high`])}].`,
    table: {
      columns: Object.keys(scores),
      rows: rows.map((i) => Object.keys(scores).map((name) => scores[name][i])),
    },
  };
};

figures.null = async (c) => {
  const type = await predictedType();
  const { summary, null: chance } = type;
  if (summary.status !== "predicted") return { none: noPrediction(type) };
  return {
    data: [
      {
        type: "histogram",
        x: chance.r2,
        nbinsx: 25,
        marker: { color: c.filter },
        name: "permutations",
        showlegend: false,
        hovertemplate: "%{y} permutations<extra></extra>",
      },
    ],
    layout: {
      xaxis: { title: "R² out of fold" },
      yaxis: { title: "permutations" },
      bargap: 0.04,
      shapes: [
        {
          type: "line",
          x0: summary.r2,
          x1: summary.r2,
          y0: 0,
          y1: 1,
          yref: "paper",
          line: { color: c.kept, width: 3 },
        },
      ],
      annotations: [
        {
          x: summary.r2,
          y: 1,
          yref: "paper",
          text: "observed",
          showarrow: false,
          xanchor: "right",
          xshift: -6,
          font: { color: c.kept },
        },
      ],
    },
    subtitle: type.label,
    said: `n = ${plural(chance.r2.length, "permutation")}; p = ${num(summary.pvalue)}, adjusted over cell types ${num(summary.padj)}.`,
    table: { columns: ["permutation", "r2"], rows: chance.r2.map((r2, i) => [chance.permutation[i], r2]) },
  };
};
