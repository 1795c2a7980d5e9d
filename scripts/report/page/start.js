// Fill the choices, draw what comes into view, listen.

function on(name, ...what) {
  $(`#choose-${name}`)?.addEventListener("change", () => {
    for (const act of what) {
      if (typeof act === "string") redraw(act);
      else act();
    }
  });
}

async function chooseType(type) {
  const { contrasts } = await block("meta");
  const types = contrasts[state.contrast].status;
  state.type = (type + types.length) % types.length;
  choices(
    "type",
    types.map((row) => row.label),
    state.type,
  );
  await showType();
}

async function startGenes(contrasts) {
  choices(
    "contrast",
    contrasts.map((contrast) => contrast.name),
  );
  choices(
    "across",
    contrasts.map((contrast) => contrast.name),
  );
  const first = Math.max(
    0,
    contrasts[0].status.findIndex((row) => row.status === "tested"),
  );
  $("#choose-contrast").addEventListener("change", () => {
    state.contrast = chosen("contrast");
    chooseType(state.type);
  });
  $("#choose-type").addEventListener("change", () => chooseType(chosen("type")));
  $("#previous").addEventListener("click", () => chooseType(state.type - 1));
  $("#next").addEventListener("click", () => chooseType(state.type + 1));
  on("across", "significant", "heatmap", "composition", sharedGrid);
  $("#table-genes").addEventListener("click", (event) => {
    const tr = event.target.closest("tbody tr");
    const i = tr && grids.genes.row(tr).index();
    if (i !== null && i !== undefined) selectGene(i, "table");
  });
  await chooseType(first);
  await sharedGrid();
}

function watch() {
  const seen = new IntersectionObserver(
    (entries) => {
      for (const entry of entries.filter((each) => each.isIntersecting)) {
        seen.unobserve(entry.target);
        draw(entry.target.dataset.figure).catch(trouble);
      }
    },
    { rootMargin: "400px" },
  );
  for (const place of $$("[data-figure]")) seen.observe(place);
}

function trouble(error) {
  const said = $("#trouble");
  said.hidden = false;
  said.textContent = `A part of this page could not be drawn: ${error.message}`;
  console.error(error);
}

async function start() {
  if (!("DecompressionStream" in window))
    throw new Error("this browser is too old; Chrome 80, Firefox 113 or Safari 16.4 and later show it");
  device.addEventListener("change", applyTheme);
  $("#theme").addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    applyTheme();
  });
  applyTheme();
  document.addEventListener("click", (event) => {
    const { png, tsv } = event.target.dataset ?? {};
    if (png) savePng(png).catch(trouble);
    if (tsv) saveTsv(tsv);
  });
  if (/\/report\/[^/]*$/.test(location.pathname))
    for (const link of $$("a[data-file]")) link.href = `../publish/v1/${link.getAttribute("href")}`;
  const [meta, cells, map] = await Promise.all([block("meta"), block("cells"), block("map")]);
  levelColours = meta.colours;
  choices(
    "stratum",
    cells.strata.map((each) => each.stratum),
  );
  choices("covariate", Object.keys(meta.covariates));
  choices(
    "metric",
    cells.histograms.map((each) => each.label),
  );
  choices(
    "layer",
    map.layers.map((layer) => words(layer.name)),
  );
  choices("resolution", Object.keys(map.clusters));
  on("stratum", "strata");
  on("covariate", "kept");
  on("metric", "qc");
  on("layer", "umap");
  on("resolution", "clusters", markersGrid);
  watch();
  await markersGrid();
  samplePictures();
  await samplesGrid();
  if (meta.contrasts.length) await startGenes(meta.contrasts);
  const prediction = await block("prediction");
  if (prediction) {
    choices(
      "predicted",
      prediction.types.map((type) => type.label),
    );
    on("predicted", "alphas", "folds", "models", "null");
  }
  if (await block("stability")) await stabilityGrid();
  document.documentElement.dataset.ready = "yes";
}

start().catch(trouble);
