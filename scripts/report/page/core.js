"use strict";
// Data, themes, figures and tables: what every section uses. All text from data goes through text(), textContent
// or DataTables' text renderer, never into markup.

const $ = (selector) => document.querySelector(selector);
const $$ = (selector) => [...document.querySelectorAll(selector)];

// --- data: base64 of gzip in script elements, unpacked when first asked for -----------------------------------
const unpacked = new Map();

async function unpack(name) {
  const element = document.querySelector(`script[data-block="${name}"]`);
  if (!element) return null;
  const bytes = Uint8Array.from(atob(element.textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

function block(name) {
  if (!unpacked.has(name))
    unpacked.set(
      name,
      unpack(name).then((json) => (json === null ? null : JSON.parse(json))),
    );
  return unpacked.get(name);
}

const picture = (name) => `data:image/png;base64,${$(`script[data-block="${name}"]`).textContent}`;

let plotly = null;
function loadPlotly() {
  plotly ??= unpack("plotly").then((code) => {
    const script = document.createElement("script");
    script.textContent = code;
    document.head.append(script);
    return window.Plotly;
  });
  return plotly;
}

// --- words ---------------------------------------------------------------------------------------------------
const text = (value) =>
  String(value ?? "")
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;");
const short = (value, most = 34) => {
  const all = String(value ?? "");
  return text(all.length > most ? `${all.slice(0, most - 1)}…` : all);
};
const count = (value) =>
  value === null || value === undefined ? "–" : Math.round(value).toLocaleString("en");
function num(value, digits = 3) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 1e-3 || size >= 1e6) return value.toExponential(digits - 1);
  return String(Number(value.toPrecision(digits)));
}
const words = (value) => String(value).replaceAll("_", " ");
// Names on an axis, shorter on a phone, with n below. Plotly joins rows of one name, so two labels that are cut to
// the same start are cut behind what they share, and what is still the same is told apart by invisible spaces.
function ticks(labels, ns = null, most = narrow() ? 17 : 32) {
  const cut = labels.map((label) => short(label, most));
  const alike = (i) => labels.filter((_, k) => cut[k] === cut[i]);
  const used = new Map();
  return labels.map((label, i) => {
    let name = cut[i];
    const same = alike(i);
    if (new Set(same).size > 1) {
      let shared = 0;
      while (same.every((other) => other[shared] === same[0][shared])) shared++;
      const from = Math.max(0, same[0].lastIndexOf(" ", shared));
      name = short(`${label.slice(0, 4)}…${label.slice(from).trim()}`, most);
    }
    const times = used.get(name) ?? 0;
    used.set(name, times + 1);
    const n = ns === null ? "" : `${narrow() ? "<br>" : " "}(n = ${count(ns[i])})`;
    return `${name}${"\u200b".repeat(times)}${n}`;
  });
}
const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

// --- themes --------------------------------------------------------------------------------------------------
const device = window.matchMedia("(prefers-color-scheme: dark)");
const THEMES = ["auto", "light", "dark"];
let theme = "auto";

const dark = () => (theme === "auto" ? device.matches : theme === "dark");

function applyTheme() {
  document.documentElement.dataset.theme = dark() ? "dark" : "light";
  const button = $("#theme");
  button.textContent = { auto: "Auto", light: "Light", dark: "Dark" }[theme];
  button.setAttribute(
    "aria-label",
    `Colours: ${theme === "auto" ? "as the device" : theme}. Press to change.`,
  );
  for (const name of drawn) draw(name);
}

// Colours of levels are those of the figures, from the data; the others belong to a theme.
let levelColours = [];
const colourOf = (level) => levelColours[level % levelColours.length];

function colours(light = false) {
  return !light && dark()
    ? {
        ink: "#e6ebf0",
        soft: "#a3b0bd",
        line: "#36414d",
        paper: "#1a2129",
        up: "#ff8a3d",
        down: "#56B4E9",
        rest: "#5c6875",
        mark: "#F0E442",
        none: "#333d48",
        kept: "#3fb08f",
        qc: "#E69F00",
        filter: "#8f9aa6",
        doublets: "#CC79A7",
        load: "#56B4E9",
      }
    : {
        ink: "#16202b",
        soft: "#55616e",
        line: "#d5dbe1",
        paper: "#ffffff",
        up: "#D55E00",
        down: "#0072B2",
        rest: "#b4bcc5",
        mark: "#000000",
        none: "#c4cbd2",
        kept: "#009E73",
        qc: "#E69F00",
        filter: "#7b8794",
        doublets: "#CC79A7",
        load: "#56B4E9",
      };
}

// --- figures -------------------------------------------------------------------------------------------------
// A figure is a function of its colours that returns {data, layout, table: {columns, rows}, said} or {none: why}.
const figures = {};
const drawn = new Set();
const tables = {}; // name -> {columns: [title], rows: [[value]]}, what the TSV buttons save
const shown = {}; // name -> what was drawn last

const plot = (name) => $(`[data-figure="${name}"]`);
const narrow = () => window.innerWidth < 600;

function dress(layout, c) {
  const axis = {
    gridcolor: c.line,
    linecolor: c.soft,
    zerolinecolor: c.line,
    automargin: true,
    ticks: "outside",
    tickcolor: c.line,
  };
  const full = {
    margin: { l: 55, r: 15, t: 12, b: 45 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: c.ink, size: 12, family: "system-ui, sans-serif" },
    hoverlabel: { bgcolor: c.paper, bordercolor: c.soft, font: { color: c.ink } },
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 11 }, traceorder: "normal" },
    colorway: levelColours,
    autosize: true,
    dragmode: narrow() ? false : "zoom",
    ...layout,
  };
  for (const key of Object.keys(layout).filter((k) => /^[xy]axis/.test(k))) {
    const { title, ...rest } = layout[key];
    full[key] = {
      ...axis,
      ...rest,
      ...(title ? { title: { text: title, standoff: 8, font: { size: 12 } } } : {}),
    };
  }
  return full;
}

const CONFIG = { displaylogo: false, responsive: true, displayModeBar: false, scrollZoom: false };

async function draw(name) {
  drawn.add(name);
  const place = plot(name);
  const Plotly = await loadPlotly();
  const made = await figures[name](colours());
  const said = $(`figcaption [data-said="${name}"]`);
  if (said) said.textContent = made.said ?? "";
  if (made.title) $(`#figure-${name} h4`).textContent = made.title;
  shown[name] = made;
  tables[name] = made.table ?? { columns: [], rows: [] };
  for (const button of $$(`#figure-${name} .tools button`)) button.disabled = Boolean(made.none);
  place.classList.toggle("none", Boolean(made.none));
  if (made.none) {
    Plotly.purge(place);
    place.textContent = made.none;
    return;
  }
  if (!place.classList.contains("js-plotly-plot")) place.textContent = "";
  place.style.height = made.height ? `${made.height}px` : "";
  await Plotly.react(place, made.data, dress(made.layout, colours()), CONFIG);
  if (made.click && !place.dataset.clicks) {
    place.dataset.clicks = "yes";
    place.on("plotly_click", (event) => shown[name].click(event.points[0]));
  }
  place.dataset.ready = "yes";
}

function redraw(...names) {
  return Promise.all(names.filter((name) => drawn.has(name)).map(draw));
}

async function savePng(name) {
  const Plotly = await loadPlotly();
  const c = colours(true);
  const made = await figures[name](c);
  const title = $(`#figure-${name} h4`).textContent;
  const layout = dress(made.layout, c);
  layout.paper_bgcolor = layout.plot_bgcolor = c.paper;
  layout.title = {
    text: text([title, made.subtitle].filter(Boolean).join(" – ")),
    x: 0.02,
    font: { size: 14 },
  };
  layout.title.y = 0.99;
  layout.title.yanchor = "top";
  layout.margin = { ...layout.margin, t: layout.margin.t + 35 };
  const place = plot(name);
  const size = { width: Math.max(700, place.clientWidth), height: Math.max(480, place.clientHeight + 40) };
  const url = await Plotly.toImage(
    { data: made.data, layout: { ...layout, ...size }, config: CONFIG },
    { format: "png", scale: 2, ...size },
  );
  save(`${fileName(name, made)}.png`, url);
}

const fileName = (name, made) =>
  [name, made?.subtitle]
    .filter(Boolean)
    .join("_")
    .replace(/[^A-Za-z0-9.-]+/g, "_");

function save(file, url) {
  const link = document.createElement("a");
  link.href = url;
  link.download = file;
  link.click();
}

function saveTsv(name) {
  const { columns, rows } = tables[name] ?? { columns: [], rows: [] };
  const cell = (value) => String(value ?? "").replace(/[\t\r\n]+/g, " ");
  const lines = [columns, ...rows].map((row) => row.map(cell).join("\t"));
  const url = URL.createObjectURL(new Blob([`${lines.join("\n")}\n`], { type: "text/tab-separated-values" }));
  save(`${fileName(name, shown[name])}.tsv`, url);
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

// --- tables --------------------------------------------------------------------------------------------------
const grids = {};

// columns: {title, kind: "text" | "number" | "gene", wide, show(value)}; rows: arrays of values, in their order
function grid(name, columns, rows, { order = [], onDraw = null, page = 10 } = {}) {
  if (grids[name]) grids[name].destroy();
  const table = $(`#table-${name}`);
  table.replaceChildren();
  tables[name] = { columns: columns.map((column) => column.title), rows };
  const renderer = DataTable.render.text();
  grids[name] = new DataTable(table, {
    data: rows,
    columns: columns.map((column) => ({
      title: text(column.title),
      className: [column.kind === "text" ? "" : "", column.wide ? "wide" : ""].join(" ").trim(),
      type: column.kind === "number" ? "num" : "string",
      searchable: column.kind !== "number",
      orderSequence: ["asc", "desc"],
      render:
        column.kind === "number"
          ? (value, type) =>
              type === "display"
                ? text((column.show ?? num)(value))
                : type === "sort" || type === "type"
                  ? (value ?? 1e308)
                  : value
          : column.kind === "gene"
            ? (value, type) =>
                type === "display"
                  ? `<button type="button" class="gene">${text(value)}</button>`
                  : (value ?? "")
            : renderer.display
              ? (value, type) => (type === "display" ? renderer.display(value ?? "") : (value ?? ""))
              : renderer,
    })),
    order,
    deferRender: true,
    pageLength: page,
    lengthMenu: [10, 25, 100],
    autoWidth: false,
    drawCallback: onDraw,
    language: {
      search: "Search",
      lengthMenu: "_MENU_ rows a page",
      info: "_START_ to _END_ of _TOTAL_",
      infoFiltered: "(of _MAX_)",
      zeroRecords: "nothing found",
    },
  });
  return grids[name];
}

function choices(name, options, chosen = 0) {
  const select = $(`#choose-${name}`);
  if (!select) return null;
  select.replaceChildren(...options.map((option, i) => new Option(String(option), i, false, i === chosen)));
  select.closest(".choose").hidden = options.length < 2;
  return select;
}
const chosen = (name) => Number($(`#choose-${name}`)?.value ?? 0);
