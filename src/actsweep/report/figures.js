// Figures: drawn when they come into view, and again when the selection or a setting changes.
{
const settings = { mode: "means", smoothing: 0, scales: {}, seeds: {} };

// Draw what the page holds; return what ends it, for when the page has other data.
function showFigures() {
  const stored = document.getElementById("figures-data");
  if (!stored) return () => {};
  const { charts, groups, black, layers } = JSON.parse(stored.textContent);
  const ending = new AbortController(), { signal } = ending, followers = [];
  const follow = (listener) => {
    followers.push(listener);
    document.addEventListener("actsweep:select", listener, { signal });
  };
  const known = new Set(groups.map((group) => group.name));
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  };

  // Rows: they travel by column, repeated values once.
  function unpack({ count, columns }) {
    const rows = Array.from({ length: count }, () => ({}));
    for (const [key, { of, at, all, lasting }] of Object.entries(columns))
      if (lasting) {
        for (let i = 0, row = 0; i < lasting.length; i += 2)
          for (const end = row + lasting[i + 1]; row < end; row++) rows[row][key] = of[lasting[i]];
      } else rows.forEach((row, i) => { row[key] = at ? of[at[i]] : all[i]; });
    return rows;
  }
  // The rows of the first run of each group.
  function firstRuns(rows) {
    const first = new Map();
    for (const { group, run_id } of rows) if (!first.has(group)) first.set(group, run_id);
    return rows.filter(({ group, run_id }) => first.get(group) === run_id);
  }
  function chosen(chart) {
    const { groups, layers, epochs, runs, ...selected } = window.actsweep.selection;
    const single = selected.seeds || runs, own = settings.seeds[chart.name];
    const seeds = !single && own != null ? [own] : selected.seeds;
    const ofRun = (row) => row.run_id != null && (!seeds || seeds.includes(row.seed))
      && (!runs || row.run_id.split(", ").some((id) => runs.includes(id)));
    const asked = { means: (row) => row.run_id == null, runs: (row) => row.run_id != null, both: () => true };
    const whole = { always: asked.both, chosen: asked.means, asked: asked[settings.mode], one: ofRun }[chart.singles];
    const rows = chart.rows.filter((row) => (single ? ofRun(row) : whole(row))
      && (!groups || !known.has(row.group) || groups.includes(row.group))
      && (!layers || row.layer == null || layers.includes(row.layer))
      && (!epochs || row.epoch == null || (epochs[0] <= row.epoch && row.epoch <= epochs[1])));
    return chart.singles === "one" ? firstRuns(rows) : rows;
  }
  // An exponential mean whose start is corrected (Kingma and Ba 2015, section 3).
  function smoothed(rows) {
    const weight = settings.smoothing, sums = new Map();
    return rows.map((row) => {
      const key = JSON.stringify([row.metric, row.group, row.run_id]);
      const sum = sums.get(key) ?? { total: 0 };
      sums.set(key, sum);
      sum.total = weight * sum.total + 1 - weight;
      const next = { ...row, unsmoothed: row.value.toPrecision(5) };
      for (const name of ["value", "low", "high"])
        if (row[name] != null) {
          sum[name] = weight * (sum[name] ?? 0) + (1 - weight) * row[name];
          next[name] = sum[name] / sum.total;
        }
      return next;
    });
  }
  // A browser is slow to repaint many elements, so many rows are drawn on a canvas.
  const rendererFor = (rows) => (rows.length > 4000 ? "canvas" : "svg");
  const drawnRows = (chart) => {
    const rows = chosen(chart);
    if (chart.singles === "asked" && settings.smoothing) return smoothed(rows);
    return rows.map((row) => ({ ...row }));
  };

  // Drawing.
  const dark = matchMedia("(prefers-color-scheme: dark)");
  function look() {
    const ink = css("--ink"), soft = css("--soft"), line = css("--line");
    const text = { labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal", labelColor: ink, titleColor: ink };
    return {
      background: null, font: "system-ui, sans-serif", view: { stroke: null },
      axis: { ...text, gridColor: line, domainColor: soft, tickColor: soft, labelLimit: 130 },
      legend: { ...text, disable: true, labelLimit: 240, titleLimit: 260, symbolType: "stroke", symbolStrokeWidth: 2 },
      header: { labelFontSize: 13, labelFontWeight: "bold", labelColor: ink, labelLimit: 240 },
      title: { fontSize: 13, color: ink },
    };
  }
  function laidOut(chart, width) {
    const text = JSON.stringify(chart.spec);
    const spec = JSON.parse(dark.matches ? text.replaceAll(black, css("--black")) : text);
    const [least, beside] = chart.panel;
    const columns = Math.max(1, Math.min(spec.columns ?? 1, Math.floor(width / least)));
    const inside = Math.max(120, Math.min(Math.floor(width / columns) - beside, 620));
    if (spec.columns) spec.columns = columns;
    for (const panel of spec.concat ?? [spec.spec ?? spec]) panel.width = inside;
    for (const { path, scales } of chart.axes) {
      const holder = path.slice(0, -1).reduce((at, key) => at[key], spec);
      holder[path.at(-1)] = scales[settings.scales[chart.name]] ?? scales.auto;
    }
    return spec;
  }
  const empty = (text) => text == null || ["", "null", "undefined", "NaN"].includes(String(text));
  const tooltip = () => ({
    theme: dark.matches ? "dark" : "light",
    formatTooltip: (value, clean) => {
      const kept = Object.entries(value).filter(([, text]) => !empty(text));
      const of = kept.some(([key]) => key === "run") ? "run" : kept.some(([key]) => key === "group") ? "group" : "";
      const hint = of && `<div class="key">double-click: this ${of} alone</div>`;
      return `<table>${kept.map(([key, text]) => `<tr><td class="key">${clean(key)}</td><td class="value">${clean(text)}</td></tr>`).join("")}</table>${hint}`;
    },
  });
  // Vega-Lite reads a nearest point's numbers where they are, but its texts where they aren't.
  function patch(compiled) {
    const texts = (key, value) => (value?.isVoronoi && value.tooltip
      ? { ...value, tooltip: { signal: value.tooltip.signal.replaceAll(/(?<!\.)\bdatum\[/g, "datum.datum[") } }
      : value);
    return { ...compiled, marks: JSON.parse(JSON.stringify(compiled.marks), texts) };
  }
  const unique = (values) => [...new Set(values)].filter((value) => value != null);
  const listed = (values, noun) => (values.length > 6 ? `${values.length} ${noun}` : values.join(", "));
  // What of a chart is drawn, where that isn't all of it.
  function drawnOf(chart, rows) {
    const { seeds, layers, epochs, runs } = window.actsweep.selection, parts = [];
    const all = unique(chart.rows.map(({ group }) => group)), here = unique(rows.map(({ group }) => group));
    if (here.length < all.length)
      parts.push(`${listed(here, `of ${all.length} groups`)} (not ${listed(all.filter((group) => !here.includes(group)), "others")})`);
    const ofRuns = rows.filter(({ run_id }) => run_id != null);
    if (ofRuns.length && (seeds || runs || chart.singles === "one")) {
      const drawn = unique(ofRuns.map(({ seed }) => seed)).sort((a, b) => a - b);
      parts.push(`seed${drawn.length > 1 ? "s" : ""} ${listed(drawn, "of them")}`);
    }
    const shown = unique(rows.map(({ layer }) => layer));
    if (layers && shown.length) parts.push(listed(layers.filter((layer) => shown.includes(layer)), "layers"));
    if (epochs && rows.some(({ epoch }) => epoch != null)) parts.push(`epochs ${epochs.join(" to ")}`);
    if (chart.singles === "asked" && settings.smoothing) parts.push(`smoothed by an exponential mean of weight ${settings.smoothing}`);
    return parts.length ? `Drawn: ${parts.join("; ")}.` : "";
  }
  // What is drawn, and what is chosen and can't be seen here.
  function tell(chart, rows) {
    const { runs } = window.actsweep.selection;
    const has = (single) => rows.some(({ run_id }) => (run_id != null) === single);
    const said = [chart.caption, has(true) && chart.ofRuns, has(false) && chart.ofMeans, rows.length && drawnOf(chart, rows)].filter(Boolean).join(" ");
    const figure = document.getElementById(chart.name);
    figure.querySelector("figcaption").textContent = said;
    figure.querySelector(".chart").setAttribute("aria-label", `${figure.querySelector("h3").textContent}. ${said}`);
    const missing = (runs ?? []).filter((run) => !chart.runs.has(run)).length;
    chart.rest.textContent = !rows.length ? "Nothing of what is chosen is drawn here."
      : `${missing} of ${runs?.length} ticked runs aren't drawn here: figures have the runs that are compared, and of many the first.`;
    chart.rest.hidden = rows.length > 0 && !missing;
  }
  async function draw(chart) {
    const rows = drawnRows(chart), turn = (chart.turn = (chart.turn ?? 0) + 1);
    chart.stale = true;
    tell(chart, rows);
    chart.width = chart.place.clientWidth;
    const spec = { ...laidOut(chart, chart.width), datasets: { table: rows } };
    const options = { actions: false, renderer: (chart.renderer = rendererFor(rows)), logLevel: 1, config: look(), tooltip: tooltip(), patch };
    const { view, finalize } = await window.vegaEmbed(chart.place, spec, options);
    if (turn !== chart.turn) return finalize();
    chart.finalize?.();
    Object.assign(chart, { view, finalize, stale: false });
    if (chart.shown != null) await view.signal("shown", chart.shown).runAsync();
    view.addEventListener("dblclick", (event, item) => {
      const row = item?.datum?.datum ?? item?.datum;
      if (row?.run_id) window.actsweep.select({ runs: row.run_id.split(", ") });
      else if (known.has(row?.group)) window.actsweep.select({ groups: [row.group] });
    });
  }
  function update(chart) {
    if (!chart.visible) { chart.stale = true; return; }
    const rows = drawnRows(chart);
    if (!chart.view || chart.width !== chart.place.clientWidth || chart.renderer !== rendererFor(rows)) return draw(chart);
    tell(chart, rows);
    chart.stale = false;
    return chart.view.data("table", rows).runAsync();
  }
  const watching = new IntersectionObserver((seen) => {
    for (const { target, isIntersecting } of seen) {
      const chart = charts.find(({ name }) => name === target.id);
      chart.visible = isIntersecting;
      if (isIntersecting && (chart.stale || !chart.view)) draw(chart);
    }
  }, { rootMargin: "400px" });

  // What stands below each figure.
  function save(chart) {
    const rows = chosen(chart), names = [...new Set(rows.flatMap(Object.keys))];
    const titles = names.map((name) => chart.names[name] ?? (name === "run_id" ? "run" : name));
    const cell = (value) => {
      const text = typeof value === "string" && /^[=+@\t\r-]/.test(value) ? `'${value}` : String(value ?? "");
      return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    const lines = [titles.map(cell), ...rows.map((row) => names.map((name) => cell(row[name])))];
    const url = URL.createObjectURL(new Blob([lines.map((line) => `${line.join(",")}\n`).join("")], { type: "text/csv" }));
    const link = make("a", { href: url, download: `${chart.name}.csv` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  }
  function button(text, act, attributes = {}) {
    const made = make("button", { type: "button", ...attributes }, text);
    made.addEventListener("click", act);
    return made;
  }
  function slider(name, low, high, step, value, act) {
    const input = make("input", { type: "range", name, min: low, max: high, step, value });
    const shown = make("output", {}, String(value));
    input.addEventListener("input", () => { shown.textContent = act(Number(input.value)); });
    return make("label", {}, `${name} `, input, " ", shown);
  }
  function tools(chart) {
    const bar = make("div", { class: "tools" });
    if (chart.times.length > 1)
      bar.append(slider("epoch", 0, chart.times.length - 1, 1, chart.times.length - 1, (place) => {
        chart.shown = chart.times[place];
        chart.view?.signal("shown", chart.shown).runAsync();
        return chart.shown;
      }));
    const last = bar.querySelector("output");
    if (last) last.textContent = chart.times.at(-1);
    if (chart.axes.length) {
      const names = { auto: "automatic", close: "linear, close up", zero: "linear, from zero", log: "logarithmic" };
      const offered = Object.keys(names).filter((name) => chart.axes.some(({ scales }) => name in scales));
      const choice = make("select", { name: "scale" }, ...offered.map((name) => make("option", { value: name }, names[name])));
      if (offered.includes(settings.scales[chart.name])) choice.value = settings.scales[chart.name];
      choice.addEventListener("change", () => { settings.scales[chart.name] = choice.value; draw(chart); });
      bar.append(make("label", {}, "axis ", choice));
    }
    const seeds = unique(chart.rows.map(({ seed }) => seed)).sort((a, b) => a - b);
    if (chart.singles === "one" && seeds.length > 1) {
      const choice = make("select", { name: "seed" }, make("option", { value: "" }, "first"),
        ...seeds.map((seed) => make("option", { value: seed }, String(seed))));
      if (seeds.includes(settings.seeds[chart.name])) choice.value = settings.seeds[chart.name];
      choice.addEventListener("change", () => {
        settings.seeds[chart.name] = choice.value === "" ? null : Number(choice.value);
        update(chart);
      });
      follow(({ detail }) => {
        choice.disabled = Boolean(detail.seeds || detail.runs);
        choice.title = choice.disabled ? "Seeds or runs are chosen for all figures" : "";
      });
      bar.append(make("label", {}, "seed ", choice));
    }
    bar.append(button("whole", () => draw(chart), { title: "Undo zooming and dragging" }));
    bar.append(button("save CSV", () => save(chart), { title: "The rows that are drawn" }));
    return bar;
  }

  // What is chosen for all figures.
  const values = (name) => [...new Set(charts.flatMap(({ rows }) => rows.map((row) => row[name])))].filter((v) => v != null);
  function toggled(name, value, more) {
    const now = window.actsweep.selection[name];
    if (!more || !now) return now?.length === 1 && now[0] === value ? null : [value];
    const next = now.includes(value) ? now.filter((other) => other !== value) : [...now, value];
    return next.length ? next : null;
  }
  function chips(name, offered, sample) {
    const bar = make("div", { class: "chips", role: "group", "aria-label": name }, make("span", {}, name));
    for (const value of offered) {
      const choose = (event) => window.actsweep.select({ [name]: toggled(name, value, event.shiftKey) });
      const chip = button("", choose, { "data-value": value, "aria-pressed": "false" });
      if (sample) chip.append(sample(value));
      chip.append(name === "layers" ? value.replace("hidden_", "") : String(value));
      bar.append(chip);
    }
    follow(({ detail }) => {
      for (const chip of bar.querySelectorAll("button")) {
        const on = detail[name]?.map(String).includes(chip.dataset.value) ?? false;
        chip.setAttribute("aria-pressed", on);
        chip.classList.toggle("out", detail[name] !== null && !on);
      }
    });
    return bar;
  }
  function line(name) {
    const { colour, dash } = groups.find((group) => group.name === name);
    const shade = colour === black ? "var(--black)" : colour;
    const sample = make("span", { class: "sample" });
    sample.innerHTML = `<svg width="28" height="8" aria-hidden="true"><line x1="0" y1="4" x2="28" y2="4" stroke-width="2.5" style="stroke: ${shade}" stroke-dasharray="${dash.join(" ")}"/></svg>`;
    return sample;
  }
  function epochRange(epochs) {
    const [low, high] = [Math.min(...epochs), Math.max(...epochs)];
    const ends = [low, high].map((end, i) => make("input", {
      type: "number", min: low, max: high, step: "any", value: end, "aria-label": ["first epoch", "last epoch"][i] }));
    const choose = () => {
      const [from, to] = ends.map((end, i) => (end.value === "" ? [low, high][i] : Number(end.value)));
      window.actsweep.select({ epochs: from <= low && to >= high ? null : [Math.min(from, to), Math.max(from, to)] });
    };
    for (const end of ends) end.addEventListener("change", choose);
    follow(({ detail }) => {
      ends.forEach((end, i) => { end.value = detail.epochs?.[i] ?? [low, high][i]; });
    });
    return make("label", {}, "epochs ", ends[0], " to ", ends[1]);
  }
  function chooser() {
    const bar = document.getElementById("chooser"), all = charts.some(({ singles }) => singles === "asked");
    const [seeds, epochs] = ["seed", "epoch"].map(values);
    bar.append(chips("groups", groups.map(({ name }) => name), line));
    const more = make("details", {}, make("summary", {}, "Seeds, layers, epochs, curves"));
    if (seeds.length > 1) more.append(chips("seeds", seeds.sort((a, b) => a - b)));
    if (layers.length > 1) more.append(chips("layers", layers));
    const row = make("div", { class: "tools" });
    if (epochs.length > 1) row.append(epochRange(epochs));
    if (all) {
      const choice = make("select", { name: "mode" }, ...["means", "runs", "both"].map((name) => make("option", { value: name }, name)));
      choice.value = settings.mode;
      choice.addEventListener("change", () => { settings.mode = choice.value; charts.forEach(update); });
      row.append(make("label", {}, "curves ", choice), slider("smoothing", 0, 0.95, 0.05, settings.smoothing, (weight) => {
        settings.smoothing = weight;
        charts.filter(({ singles }) => singles === "asked").forEach(update);
        return weight;
      }));
    }
    more.append(row);
    const status = make("span", { id: "chosen", role: "status" }), ofRun = make("a", { href: "#runs-title", hidden: "" }, "its own page");
    const everything = button("show all", () => window.actsweep.select(
      { groups: null, seeds: null, layers: null, epochs: null, runs: null }));
    everything.hidden = true;
    bar.append(more, make("div", { class: "tools" }, status, ofRun, everything));
    follow(({ detail }) => {
      const parts = Object.entries(detail).filter(([, value]) => value).map(([name, value]) =>
        `${name}: ${name === "epochs" ? value.join(" to ") : value.length > 4 ? value.length : value.join(", ")}`);
      status.textContent = parts.length ? `Chosen for figures and runs, not for the answer: ${parts.join("; ")}` : "";
      ofRun.hidden = detail.runs?.length !== 1;
      if (!ofRun.hidden) ofRun.href = `#run=${encodeURIComponent(detail.runs[0])}`;
      everything.hidden = !parts.length;
    });
  }

  for (const chart of charts) {
    const figure = document.getElementById(chart.name);
    chart.rows = unpack(chart.drawn);
    chart.place = make("div");  // Vega-Embed gives it a role of its own
    figure.querySelector(".chart").append(chart.place);
    chart.runs = new Set(chart.rows.flatMap(({ run_id: run }) => run?.split(", ") ?? []));
    chart.rest = make("p", { class: "soft", hidden: "" });
    figure.querySelector("figcaption").before(chart.rest, tools(chart));
    watching.observe(figure);
  }
  chooser();
  follow(() => charts.forEach(update));
  const drawAgain = (chart) => { if (chart.visible) draw(chart); else chart.stale = true; };
  dark.addEventListener("change", () => charts.filter(({ view }) => view).forEach(drawAgain), { signal });
  let waiting;
  addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => charts.filter((c) => c.view && c.width !== c.place.clientWidth).forEach(drawAgain), 150);
  }, { signal });
  window.actsweep.charts = charts;
  for (const listener of followers) listener({ detail: window.actsweep.selection });
  return () => {
    ending.abort();
    watching.disconnect();
    for (const chart of charts) chart.finalize?.();
  };
}

let endFigures = showFigures();
document.addEventListener("actsweep:data", () => { endFigures(); endFigures = showFigures(); });
}
