// Tables are sorted by a click on a heading; the runs are filtered by what is typed.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  table.querySelectorAll("th button").forEach((button) => {
    const head = button.parentElement, column = head.cellIndex;
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
      const number = (row) => (value(row).trim() === "" ? NaN : Number(value(row)));
      const compare = (a, b) => {  // numbers before words, also where a column has both
        const [x, y] = [number(a), number(b)];
        if (Number.isNaN(x) && Number.isNaN(y))
          return value(a).localeCompare(value(b), undefined, { numeric: true });
        return Number.isNaN(x) - Number.isNaN(y) || x - y;
      };
      const blank = (row) => head.classList.contains("number") && Number.isNaN(number(row));
      const rows = [...body.rows];
      const known = rows.filter((row) => !blank(row)).sort(compare);
      if (down) known.reverse();
      body.append(...known, ...rows.filter(blank));
    });
  });
}
const filter = document.getElementById("filter");
filter?.addEventListener("input", () => {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of document.querySelectorAll("#runs tbody tr")) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
    shown += !row.hidden;
  }
  document.getElementById("shown").textContent = `${shown} shown`;
});
