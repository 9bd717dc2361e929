// A table that is filtered by an expression, sorted, given further columns, ticked, saved as CSV.
window.actsweep ??= {};
{
  const BATCH = 100;  // rows that are drawn at once
  const FORMULA = /^[=+\-@\t\r]/;  // what a spreadsheet would compute

  actsweep.element = (name, attributes = {}, ...children) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
      else if (value === true) element.setAttribute(key, "");
      else if (value !== false && value !== undefined) element.setAttribute(key, value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  };
  const element = actsweep.element;

  // Where an element stands, so that the one that is drawn in its place can be found.
  const place = (element) => [element.closest("[id]")?.id, element.tagName, element.name, element.getAttribute("aria-label")
    ?? element.dataset.value ?? (element.querySelector(":scope > summary") ?? element).textContent.trim()].join("\n");

  // Draw anew what lies in an element: the focus, what is unfolded and sliders stay as they are.
  actsweep.keeping = (box, change) => {
    const active = box.contains(document.activeElement) ? document.activeElement : null;
    const focus = active && active !== document.body ? place(active) : null;
    const unfolded = new Set([...box.querySelectorAll("details[open]")].map(place));
    const moved = [...box.querySelectorAll("input[type=range]")].filter((slider) => slider.name === "epoch" && slider.value !== slider.max)
      .map((slider) => [place(slider), slider.value]);
    change();
    for (const details of box.querySelectorAll("details:not([open])"))
      if (unfolded.has(place(details))) details.open = true;
    for (const slider of moved.length ? box.querySelectorAll("input[type=range]") : []) {
      const before = moved.find(([where]) => where === place(slider));
      if (before) { slider.value = before[1]; slider.dispatchEvent(new Event("input")); }
    }
    if (focus && !active.isConnected)
      [...box.querySelectorAll("a, button, input, select, summary, [tabindex]")].find((other) => place(other) === focus)?.focus({ preventScroll: true });
  };

  actsweep.formatted = (value, digits) => {
    if (value === null || value === undefined) return "–";
    if (typeof value !== "number" || !digits) return String(value);
    const count = parseInt(digits, 10);
    return digits.endsWith("f") ? value.toFixed(count) : String(Number(value.toPrecision(count)));
  };

  actsweep.save = (name, text) => {
    const url = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    element("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
  };

  const csvCell = (value) => {
    if (value === null || value === undefined) return "";
    const text = typeof value === "string" && FORMULA.test(value) ? `'${value}` : String(value);
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  actsweep.csv = (header, rows) => [header, ...rows].map((row) => row.map(csvCell).join(",") + "\n").join("");

  // Columns of the page's data, whose values are read by a row's place.
  actsweep.columns = (plain) => plain.map((column) => ({
    ...column, value: "constant" in column ? () => column.constant : (row) => column.values[row],
  }));

  // Numbers first, then words; what is missing comes last both ways.
  function sorted(rows, column, down) {
    const { number } = actsweep.filter;
    const missing = (row) => [null, undefined, ""].includes(column.value(row));
    const compare = (a, b) => {
      const [v, w] = [column.value(a), column.value(b)], [x, y] = [number(v), number(w)];
      if (Number.isNaN(x) && Number.isNaN(y))
        return String(v).localeCompare(String(w), undefined, { numeric: true });
      return Number.isNaN(x) - Number.isNaN(y) || x - y;
    };
    const known = rows.filter((row) => !missing(row)).sort(compare);
    return [...(down ? known.reverse() : known), ...rows.filter(missing)];
  }

  // `options`: box, name, columns, keys; link(key); allowed(row) and why() of another filter;
  // ticked(keys), called when a person ticks rows; example, of a filter.
  actsweep.table = (options) => {
    const { box, name } = options;
    let { columns, keys } = options, rows = [], limit = BATCH, sort = null, onlyTicked = false;
    const ticked = new Set();
    const shown = () => columns.filter((column) => column.shown);

    const input = element("input", { id: name === "runs" ? "filter" : `${name}-filter`, type: "search", autocomplete: "off",
                                     spellcheck: "false", autocapitalize: "none", "aria-describedby": `${name}-error`, oninput: () => { limit = BATCH; draw(); } });
    const error = element("p", { id: `${name}-error`, class: "bad filter-error", role: "alert" });
    const status = element("span", { id: name === "runs" ? "shown" : `${name}-shown`, role: "status" });
    const only = element("button", { type: "button", "aria-pressed": "false", onclick: () => { onlyTicked = !onlyTicked; draw(); } }, "Only ticked");
    const clear = element("button", { type: "button", onclick: () => { ticked.clear(); onlyTicked = false; tell(); draw(); } }, "Untick all");
    const save = element("button", { type: "button", onclick: () => actsweep.save(`${name}.csv`,
      actsweep.csv(shown().map((c) => c.title), rows.map((row) => shown().map((c) => c.value(row))))) }, "Save as CSV");
    const chooser = element("details", { class: "columns" });
    const head = element("tr"), body = element("tbody");
    const more = element("button", { type: "button", onclick: () => { limit += BATCH; draw(); } });
    const table = element("table", { id: name }, element("thead", {}, head), body);
    box.replaceChildren(
      element("label", { for: input.id }, "Filter, for example ", element("q", {}, options.example)),
      element("div", {}, input), error,
      element("div", { class: "tools" }, status, only, clear, save, ...(options.buttons ?? [])), chooser,
      element("div", { class: "wide", tabindex: "0", role: "region", "aria-label": options.label }, table), more);

    function tell() { options.ticked?.([...ticked]); }
    function tick(key) {
      if (!ticked.delete(key)) ticked.add(key);
      tell();
      draw();
    }

    function drawHead() {
      head.replaceChildren(element("th", { scope: "col", class: "tick" }, element("span", { class: "hidden" }, "ticked")),
        ...shown().map((column) => element("th", {
          scope: "col", class: column.digits ? "number" : undefined,
          "aria-sort": sort?.name === column.name ? (sort.down ? "descending" : "ascending") : undefined,
        }, element("button", { type: "button", title: `sort; in filters: ${column.name}`, onclick: () => {
          sort = { name: column.name, down: sort?.name === column.name && !sort.down };
          draw();
        } }, column.title))));
    }

    function drawRow(row) {
      const key = keys[row], isTicked = ticked.has(key);
      const box = element("input", { type: "checkbox", "aria-label": `tick ${key}`, onclick: (event) => { event.stopPropagation(); tick(key); } });
      box.checked = isTicked;
      return element("tr", { "aria-selected": String(isTicked), "data-key": key, onclick: (event) => {
        if (!event.target.closest("a") && !getSelection().toString()) tick(key);
      } }, element("td", { class: "tick" }, box), ...shown().map((column, place) => {
        const text = actsweep.formatted(column.value(row), column.digits);
        const link = place === 0 ? options.link?.(key) : undefined;
        return element("td", { class: column.digits ? "number" : column.kind || undefined, title: column.kind === "clip" ? text : undefined },
          link ? element("a", { href: link, ...options.linkAttributes }, text) : text);
      }));
    }

    function draw() {
      let test = () => false;
      try {
        test = actsweep.filter.parse(input.value, columns);
        error.textContent = "";
      } catch (failure) {
        if (!(failure instanceof actsweep.filter.FilterError)) throw failure;
        error.textContent = failure.message;
        return;  // the rows stay as they are while an expression is being typed
      }
      onlyTicked &&= ticked.size > 0;
      rows = keys.map((_, row) => row).filter((row) =>
        (options.allowed?.(row) ?? true) && (!onlyTicked || ticked.has(keys[row])) && test(row));
      const column = sort && columns.find((c) => c.name === sort.name);
      if (column) rows = sorted(rows, column, sort.down);
      actsweep.keeping(table, () => {
        drawHead();
        body.replaceChildren(...rows.slice(0, limit).map(drawRow));
      });
      more.hidden = rows.length <= limit;
      more.textContent = `Show ${Math.min(BATCH, rows.length - limit)} more of ${rows.length}`;
      const why = options.why?.();
      status.textContent = `${rows.length} of ${keys.length} shown${why ? ` (${why})` : ""}${ticked.size ? `, ${ticked.size} ticked` : ""}`;
      only.hidden = clear.hidden = !ticked.size;
      only.setAttribute("aria-pressed", String(onlyTicked));
    }

    function drawChooser() {
      const wanted = element("input", { type: "search", "aria-label": "find a column", placeholder: "find a column", autocomplete: "off" });
      const list = element("div", { class: "choices" });
      const choices = columns.map((column) => {
        const check = element("input", { type: "checkbox", onchange: () => { column.shown = check.checked; draw(); } });
        check.checked = column.shown;
        const differs = !("constant" in column);
        return { column, differs, label: element("label", {}, check, ` ${column.title === column.name ? column.name : `${column.title} (${column.name})`}`) };
      });
      const find = () => {
        const part = wanted.value.toLowerCase();
        list.replaceChildren(...choices.filter(({ column, differs }) =>
          part ? `${column.name} ${column.title}`.toLowerCase().includes(part) : differs || column.shown).map((c) => c.label));
      };
      wanted.addEventListener("input", find);
      find();
      const opened = chooser.open;
      chooser.replaceChildren(element("summary", {}, "Columns"),
        element("p", { class: "soft" }, "Those in which rows differ; type to find any other."), wanted, list);
      chooser.open = opened;
    }

    drawChooser();
    draw();
    return {
      draw,
      tick: (wanted, only) => {
        ticked.clear();
        for (const key of wanted) if (keys.includes(key)) ticked.add(key);
        onlyTicked = only;
        draw();
      },
      update: (newColumns, newKeys) => {  // keeps filter, sort, columns, ticks
        const before = new Map(columns.map((column) => [column.name, column.shown]));
        columns = newColumns;
        for (const column of columns) column.shown = before.get(column.name) ?? column.shown;
        keys = newKeys;
        for (const key of [...ticked]) if (!keys.includes(key)) ticked.delete(key);
        if (!chooser.contains(document.activeElement)) drawChooser();
        draw();
      },
    };
  };
}
