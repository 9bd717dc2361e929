// The page of a single run, `#run=<id>`: drawn by script from the page's data.
{
  const { element, formatted } = actsweep;
  const report = document.getElementById("report"), page = document.getElementById("run");
  const LINES = { "train": "3 3", "val": "" };
  let scrolled = 0;

  const asked = () => /^#run=(.+)$/.exec(location.hash)?.[1];
  const svg = (name, attributes, ...children) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  };

  function ticks(low, high, count) {
    const rough = (high - low) / count || 1, power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
    const made = [];
    for (let value = Math.ceil(low / step) * step; value <= high + 1e-9 * step; value += step) made.push(value);
    return made.map((value) => Number(value.toPrecision(10)));
  }

  // Lines of one kind of score over epochs, each with its name at its end.
  function chart(title, lines, width) {
    const height = 220, left = 56, right = 16, top = 12, bottom = 34;
    const values = lines.flatMap((line) => line.values), epochs = lines.flatMap((line) => line.epochs);
    const log = Math.min(...values) > 0 && Math.max(...values) / Math.min(...values) > 100;
    const scale = (value) => (log ? Math.log10(value) : value);
    let [low, high] = [Math.min(...values.map(scale)), Math.max(...values.map(scale))];
    if (low === high) [low, high] = [low - 0.5, high + 0.5];
    const [first, last] = [Math.min(...epochs), Math.max(...epochs, Math.min(...epochs) + 1e-9)];
    const x = (epoch) => left + ((epoch - first) / (last - first)) * (width - left - right);
    const y = (value) => height - bottom - ((scale(value) - low) / (high - low)) * (height - top - bottom);
    const across = ticks(low, high, 4).map((tick) => (log ? 10 ** tick : tick));
    const drawing = svg("svg", { width, height, role: "img", "aria-label": `${title} over epochs` },
      ...across.flatMap((tick) => [
        svg("line", { x1: left, x2: width - right, y1: y(tick), y2: y(tick), class: "grid" }),
        svg("text", { x: left - 6, y: y(tick) + 4, "text-anchor": "end" }, formatted(tick, "3g")),
      ]),
      ...ticks(first, last, Math.max(2, Math.min(6, width / 90))).map((tick) =>
        svg("text", { x: x(tick), y: height - bottom + 18, "text-anchor": "middle" }, formatted(tick, "6g"))),
      svg("text", { x: width - right, y: height - 2, "text-anchor": "end", class: "soft" }, "epoch"),
      ...lines.map((line) => svg("polyline", {
        points: line.values.map((value, i) => `${x(line.epochs[i])},${y(value)}`).join(" "),
        class: "curve", "stroke-dasharray": LINES[line.part] ?? "",
      })),
      ...lines.filter((line) => line.values.length === 1).map((line) =>
        svg("circle", { cx: x(line.epochs[0]), cy: y(line.values[0]), r: 3, class: "dot" })));
    const legend = lines.map((line) => `${line.part} ${LINES[line.part] ? "(dashed)" : "(solid)"} ${formatted(line.values.at(-1), "4g")}`);
    return element("figure", {}, element("h3", {}, title), drawing, element("figcaption", {}, `At the end: ${legend.join(", ")}.`));
  }

  const TITLES = { loss: "Loss", accuracy: "Accuracy, %", mean_average_precision: "Mean average precision, %" };
  function curves(details) {
    const box = element("div", { class: "run-figures" });
    const room = page.clientWidth, width = Math.floor(room < 700 ? room : (room - 40) / 2);
    for (const [kind, title] of Object.entries(TITLES)) {
      const lines = Object.entries(details.curves).filter(([name]) => name.endsWith(`/${kind}`))
        .map(([name, [epochs, values]]) => ({ part: name.split("/")[0], epochs, values }));
      if (lines.length) box.append(chart(title, lines, width));
    }
    return box.childElementCount ? box : element("p", { class: "soft" }, "Nothing is logged yet.");
  }

  const row = (...cells) => element("tr", {}, ...cells.map(([text, kind]) => element("td", { class: kind }, text)));
  const wide = (label, ...children) =>
    element("div", { class: "wide", role: "region", tabindex: "0", "aria-label": label }, element("table", {}, ...children));

  function layers({ names = [], quantities = [], values = [] }) {
    if (!names.length) return element("p", { class: "soft" }, "No layer was measured.");
    return wide("Layers",
      element("thead", {}, element("tr", {}, ...["layer", ...quantities].map((title, place) =>
        element("th", { scope: "col", class: place ? "number" : undefined }, title)))),
      element("tbody", {}, ...names.map((name, i) => row([name], ...values[i].map((value) => [formatted(value, "4g"), "number"])))));
  }

  function pairsTable(label, pairs) {
    return wide(label, element("tbody", {}, ...pairs.map(([name, value]) => row([name], [value, "why"]))));
  }

  const heading = (text) => element("h3", {}, text);
  const code = (...lines) => element("pre", {}, lines.join("\n"));

  function content(id) {
    const place = actsweep.data.runs.indexOf(id);
    const back = element("p", {}, element("a", { href: "#runs-title", class: "back" }, "← All runs"));
    if (place < 0) return [back, element("h2", {}, id), element("p", {}, "No run of this page has this name.")];
    const details = actsweep.data.details[id];
    const columns = actsweep.columns(actsweep.data.columns);
    const value = (name) => columns.find((column) => column.name === name)?.value(place) ?? null;
    const shown = (column) => [column.title, formatted(column.value(place), column.digits)];
    const results = columns.filter((c) => c.digits && !c.setting && c.value(place) !== null);
    const settings = columns.filter((c) => c.setting).map((c) => [c.name, formatted(c.value(place), "12g")]);
    const own = settings.filter(([name]) => details.own.includes(name));
    const rest = settings.filter(([name, text]) => !details.own.includes(name) && text !== "–");
    const state = value("state"), cause = value("cause");
    return [back, element("h2", { tabindex: "-1" }, id),
      element("p", {}, element("strong", { class: state === "complete" ? undefined : "bad" }, state), cause ? `: ${cause}` : "",
        ` · group ${actsweep.data.groups[place]} · seed ${textOf(value("seed"))}`),
      heading("Curves"), curves(details),
      heading("Layers, last measured"), layers(details.layers),
      heading("Results"), results.length ? pairsTable("Results", results.map(shown)) : element("p", { class: "soft" }, "None yet."),
      heading("Settings that aren't the defaults"), pairsTable("Settings", own),
      element("details", {}, element("summary", {}, `All other settings (${rest.length})`), pairsTable("Other settings", rest)),
      heading("Messages"), details.messages.length ? code(...details.messages) : element("p", { class: "soft" }, "None."),
      heading("To load it"), code("import actsweep", `run = actsweep.load_run(${JSON.stringify(details.path)})`),
      heading("To train it again"), code(...details.again),
      element("p", { class: "soft" }, "Its folder, where the report was written: ", element("code", {}, details.path))];
  }
  const { textOf } = actsweep.filter;

  function show(moved) {
    const id = asked(), before = !page.hidden;
    if (id && !before) scrolled = actsweep.scrolled ?? 0;
    report.hidden = Boolean(id);
    page.hidden = !id;
    if (!id) {
      page.replaceChildren();
      if (before && moved) scrollTo(0, scrolled);
      return;
    }
    page.replaceChildren(...content(decodeURIComponent(id)));
    if (moved) {
      scrollTo(0, 0);
      page.querySelector("h2")?.focus({ preventScroll: true });
    }
  }

  document.addEventListener("click", (event) => {
    if (event.target.closest('a[href^="#run="]')) actsweep.scrolled = scrollY;
  });
  addEventListener("hashchange", () => show(true));
  addEventListener("resize", () => asked() && show(false));
  document.addEventListener("actsweep:data", () => asked() && show(false));
  if (asked()) show(true);
}
