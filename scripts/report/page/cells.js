// Losses by step, share kept per sample, QC, doublets.

const STEPS = ["kept", "load", "filter", "qc", "doublets"];
const outcome = {
  kept: "kept",
  load: "dropped by load",
  filter: "dropped by filter",
  qc: "dropped by qc",
  doublets: "dropped by doublets",
};

figures.flow = async (c) => {
  const { losses } = await block("cells");
  const rows = [{ label: "input", left: losses.cells, lost: 0 }];
  let left = losses.cells;
  for (const each of losses.lost) {
    left -= each.cells;
    rows.push({
      label: `${words(each.step)}: ${words(each.reason)}`,
      left,
      lost: each.cells,
      step: each.step,
      samples: each.samples_lost,
    });
  }
  rows.push({ label: "kept", left: losses.kept, lost: 0 });
  const y = ticks(
    rows.map((row) => row.label),
    null,
    narrow() ? 24 : 40,
  );
  const note = rows.map((row) => (row.lost ? `−${count(row.lost)}` : count(row.left)));
  return {
    data: [
      {
        type: "bar",
        orientation: "h",
        y,
        x: rows.map((row) => row.left),
        marker: { color: c.kept },
        name: "left",
        hovertemplate: "%{x:,} cells left<extra></extra>",
      },
      {
        type: "bar",
        orientation: "h",
        y,
        x: rows.map((row) => row.lost),
        marker: { color: rows.map((row) => c[row.step] ?? c.rest) },
        name: "dropped here",
        text: note,
        textposition: "outside",
        cliponaxis: false,
        hovertemplate: "%{x:,} cells dropped<extra></extra>",
      },
    ],
    layout: {
      barmode: "stack",
      showlegend: false,
      yaxis: { autorange: "reversed" },
      xaxis: { title: "cells", rangemode: "tozero", range: [0, losses.cells * 1.18], nticks: 5 },
    },
    height: 120 + 30 * rows.length,
    said: `${count(losses.cells)} cells of ${count(losses.samples)} samples came in; ${count(losses.kept)} of ${count(losses.samples_kept)} are kept.`,
    table: {
      columns: ["step", "cells_left", "cells_dropped", "samples_lost"],
      rows: rows.map((row) => [row.label, row.left, row.lost, row.samples ?? ""]),
    },
  };
};

figures.strata = async (c) => {
  const { strata } = await block("cells");
  if (!strata.length) return { none: "The config counts losses in no stratum." };
  const each = strata[chosen("stratum")];
  const y = ticks(each.levels.map((level) => level.level));
  const share = (step) => each.steps[step].map((n, i) => (100 * n) / each.levels[i].input);
  return {
    data: STEPS.filter((step) => each.steps[step]?.some((n) => n)).map((step) => ({
      type: "bar",
      orientation: "h",
      name: outcome[step],
      y,
      x: share(step),
      customdata: each.steps[step],
      marker: { color: c[step] },
      hovertemplate: `%{customdata:,} cells, %{x:.1f} %<extra>${outcome[step]}</extra>`,
    })),
    layout: {
      barmode: "stack",
      yaxis: { autorange: "reversed", type: "category" },
      xaxis: { title: "% of input cells", range: [0, 100] },
    },
    height: 150 + 26 * each.levels.length,
    subtitle: each.stratum,
    said: `n = ${each.levels
      .map((level) => `${count(level.input)} (${level.level})`)
      .slice(0, 12)
      .join(", ")}${each.levels.length > 12 ? ", …" : ""} cells.`,
    table: {
      columns: [each.stratum, "input", ...Object.keys(each.steps)],
      rows: each.levels.map((level, i) => [
        level.level,
        level.input,
        ...Object.values(each.steps).map((n) => n[i]),
      ]),
    },
  };
};

// A numeric covariate against a value as points, a category as points beside each other; coloured by a category.
function againstCovariate({ x, kind, y, group, hover, c }) {
  const levels = [...new Set(x.filter((v) => v !== null && v !== ""))].sort();
  const jitter = (i) => 0.5 * (((i * 0.618034) % 1) - 0.5);
  const groups = group ? [...new Set(group)].sort() : [null];
  const data = groups.map((name, k) => {
    const rows = x
      .map((_, i) => i)
      .filter((i) => x[i] !== null && x[i] !== "" && (name === null || group[i] === name));
    return {
      type: "scatter",
      mode: "markers",
      showlegend: name !== null,
      name: name === null ? "" : text(`${name || "missing"} (n = ${rows.length})`),
      x: rows.map((i) => (kind === "categorical" ? levels.indexOf(x[i]) + jitter(i) : x[i])),
      y: rows.map((i) => y[i]),
      text: rows.map((i) => hover(i)),
      hovertemplate: "%{text}<extra></extra>",
      marker: {
        size: rows.length > 300 ? 5 : 7,
        opacity: 0.75,
        color: colourOf(k),
        symbol: ["circle", "diamond", "square", "cross"][k % 4],
      },
    };
  });
  if (kind === "categorical") {
    const middle = levels.map((level) => {
      const mine = y.filter((v, i) => x[i] === level && v !== null).sort((a, b) => a - b);
      return (mine[Math.floor((mine.length - 1) / 2)] + mine[Math.ceil((mine.length - 1) / 2)]) / 2;
    });
    data.push({
      type: "scatter",
      mode: "markers",
      name: "median",
      x: levels.map((_, i) => i),
      y: middle,
      hovertemplate: "median %{y:.4g}<extra></extra>",
      marker: { symbol: "line-ew", size: 46, line: { width: 3, color: c.ink } },
    });
  }
  const axis =
    kind === "categorical"
      ? {
          tickvals: levels.map((_, i) => i),
          ticktext: ticks(
            levels,
            levels.map((level) => x.filter((v) => v === level).length),
          ),
          range: [-0.6, levels.length - 0.4],
        }
      : {};
  return { data, axis, n: x.filter((v, i) => v !== null && v !== "" && y[i] !== null).length };
}

// A category to colour by: another one than the first, of few levels.
function secondCovariate(covariates, table, first) {
  const few = (name) => new Set(table[name]).size <= 6;
  return (
    Object.keys(covariates).find(
      (name) => covariates[name] === "categorical" && name !== first && few(name),
    ) ?? null
  );
}

figures.kept = async (c) => {
  const [{ kept }, { covariates }] = await Promise.all([block("cells"), block("meta")]);
  const name = Object.keys(covariates)[chosen("covariate")];
  if (!name) return { none: "The config names no covariate." };
  const second = secondCovariate(covariates, kept, name);
  const made = againstCovariate({
    x: kept[name],
    kind: covariates[name],
    y: kept.share.map((share) => (share === null ? null : 100 * share)),
    group: second && kept[second],
    c,
    hover: (i) =>
      text(
        `${kept.sample[i]}: ${kept.kept[i]} of ${kept.usable[i]} cells, ${name} ${kept[name][i]}${kept.reason[i] ? `; ${words(kept.reason[i])}` : ""}`,
      ),
  });
  return {
    data: made.data,
    layout: {
      xaxis: { title: text(name), ...made.axis },
      yaxis: { title: "% of usable cells kept", range: [-3, 103] },
      showlegend: true,
    },
    said: `n = ${plural(made.n, "sample")}.`,
    subtitle: name,
    table: {
      columns: ["sample", name, "usable", "kept", "share"],
      rows: kept.sample.map((sample, i) => [
        sample,
        kept[name][i],
        kept.usable[i],
        kept.kept[i],
        kept.share[i],
      ]),
    },
  };
};

figures.qc = async (c) => {
  const each = (await block("cells")).histograms[chosen("metric")];
  if (!each) return { none: "No metric was computed." };
  const value = (edge) => (each.log ? 10 ** edge - 1 : edge);
  const place = (v) => (each.log ? Math.log10(v + 1) : v);
  const middle = each.edges.slice(1).map((edge, i) => (edge + each.edges[i]) / 2);
  const width = each.edges[1] - each.edges[0];
  const used = Object.keys(each.counts).filter((step) => each.counts[step].some((n) => n));
  const shapes = [],
    annotations = [];
  each.limits.forEach((limit, i) => {
    const fixed = limit.low === limit.high;
    const line = (v, dash) =>
      shapes.push({
        type: "line",
        x0: place(v),
        x1: place(v),
        y0: 0,
        y1: 1,
        yref: "paper",
        line: { color: c.ink, width: 1.3, dash },
      });
    if (!fixed)
      shapes.push({
        type: "rect",
        x0: place(limit.low),
        x1: place(limit.high),
        y0: 0,
        y1: 1,
        yref: "paper",
        fillcolor: c.soft,
        opacity: 0.16,
        line: { width: 0 },
      });
    line(limit.median, fixed ? "dash" : "dot");
    annotations.push({
      x: place(limit.median),
      y: 1,
      yref: "paper",
      yanchor: "bottom",
      text: String(i + 1),
      showarrow: false,
      font: { size: 11 },
    });
  });
  const ticks = each.log
    ? [0, 1, 3, 10, 30, 100, 300, 1000, 3000, 1e4, 3e4, 1e5].filter(
        (v) => place(v) >= each.edges[0] - width && place(v) <= each.edges.at(-1) + width,
      )
    : null;
  const name = (limit) =>
    `${words(limit.name)} ${limit.low === limit.high ? num(limit.low) : `${num(limit.low)} to ${num(limit.high)}, median ${num(limit.median)}`} (${limit.groups})`;
  return {
    data: used.map((step) => ({
      type: "bar",
      x: middle,
      y: each.counts[step],
      width,
      name: outcome[step],
      marker: { color: c[step] },
      customdata: middle.map((_, i) => `${num(value(each.edges[i]))} to ${num(value(each.edges[i + 1]))}`),
      hovertemplate: `%{customdata}: %{y:,} cells<extra>${outcome[step]}</extra>`,
    })),
    layout: {
      barmode: "stack",
      bargap: 0,
      shapes,
      annotations,
      legend: {
        orientation: "h",
        x: 0,
        y: 1.09,
        yanchor: "bottom",
        font: { size: 11 },
        traceorder: "normal",
      },
      xaxis: {
        title: `${each.label} (${each.unit}${each.log ? ", log scale" : ""})`,
        ...(ticks ? { tickvals: ticks.map(place), ticktext: ticks.map((v) => v.toLocaleString("en")) } : {}),
      },
      yaxis: { title: "cells" },
    },
    subtitle: each.metric,
    said: `n = ${count(each.cells)} cells. ${each.limits.length ? `Limits (samples or groups in which they hold): ${each.limits.map((limit, i) => `${i + 1} ${name(limit)}`).join("; ")}.` : "No limit is set."}`,
    table: {
      columns: ["from", "to", ...used],
      rows: middle.map((_, i) => [
        num(value(each.edges[i]), 5),
        num(value(each.edges[i + 1]), 5),
        ...used.map((step) => each.counts[step][i]),
      ]),
    },
  };
};

figures.doublets = async (c) => {
  const { doublets } = await block("cells");
  const n = doublets.group.length;
  const kindOf = (i) =>
    doublets.status[i] === "scored"
      ? `scored, threshold ${words(doublets.threshold_from[i])}`
      : `${words(doublets.status[i])}: ${words(doublets.reason[i])}`;
  const order = [...Array(n).keys()].sort(
    (a, b) => (doublets.called_share[b] ?? -1) - (doublets.called_share[a] ?? -1),
  );
  const rank = new Map(order.map((i, k) => [i, k + 1]));
  const kinds = [...new Set(order.map(kindOf))].sort((a, b) => b.localeCompare(a));
  return {
    data: kinds.map((kind, k) => {
      const rows = order.filter((i) => kindOf(i) === kind);
      const scored = rows.every((i) => doublets.called_share[i] !== null);
      return {
        type: "scatter",
        mode: "markers",
        name: text(`${kind} (${rows.length})`),
        x: rows.map((i) => rank.get(i)),
        y: rows.map((i) => (scored ? 100 * doublets.called_share[i] : 0)),
        text: rows.map((i) =>
          text(
            `${doublets.group[i]}: ${doublets.called[i] ?? "no"} of ${doublets.cells[i]} cells called; ${kind}`,
          ),
        ),
        hovertemplate: "%{text}<extra></extra>",
        marker: {
          size: 7,
          symbol: scored ? ["circle", "diamond", "square"][k % 3] : "x",
          color: scored ? colourOf(k) : c.soft,
        },
      };
    }),
    layout: {
      xaxis: { title: "rank by share called" },
      yaxis: { title: "% of scored cells called doublets", rangemode: "tozero" },
      showlegend: true,
    },
    said: `n = ${count(n)}; crosses at the bottom: not scored.`,
    table: {
      columns: [
        "group",
        "cells",
        "status",
        "reason",
        "threshold",
        "threshold_from",
        "called",
        "called_share",
      ],
      rows: order.map((i) =>
        ["group", "cells", "status", "reason", "threshold", "threshold_from", "called", "called_share"].map(
          (key) => doublets[key][i],
        ),
      ),
    },
  };
};
