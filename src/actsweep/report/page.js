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
      const numeric = head.classList.contains("number");
      const compare = (a, b) => {
        const [x, y] = [value(a), value(b)];
        if (!numeric) return x.localeCompare(y, undefined, { numeric: true });
        if (x === "" || y === "") return (x === "") - (y === "") || 0;
        return Number(x) - Number(y);
      };
      const blank = (row) => numeric && value(row) === "";
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
