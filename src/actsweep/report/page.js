// Tables of groups and pairs are sorted by a click on a heading.
document.addEventListener("click", (event) => {
  const head = event.target.closest("table.sortable th button")?.parentElement;
  if (!head) return;
  const body = head.closest("table").tBodies[0], column = head.cellIndex;
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
