// The report's table of runs: follows the selection made in charts, and makes one by ticks.
{
  const { element } = actsweep;
  const box = document.getElementById("runs-box");
  const read = () => JSON.parse(document.getElementById("data").textContent);
  let own = false;  // whether the selection of runs was made here

  actsweep.data = read();
  const seeds = () => actsweep.data.columns.find((column) => column.name === "seed");
  const seedOf = (row) => { const column = seeds(); return column && ("constant" in column ? column.constant : column.values[row]); };

  const table = actsweep.table({
    box, name: "runs", label: "Runs", columns: actsweep.columns(actsweep.data.columns), keys: actsweep.data.runs,
    example: actsweep.data.example, link: (key) => `#run=${encodeURIComponent(key)}`,
    allowed: (row) => {
      const { groups, seeds } = actsweep.selection;
      return (!groups || groups.includes(actsweep.data.groups[row])) && (!seeds || seeds.includes(seedOf(row)));
    },
    why: () => {
      const { groups, seeds } = actsweep.selection;
      return [groups && `groups ${groups.join(", ")}`, seeds && `seeds ${seeds.join(", ")}`].filter(Boolean).join("; ");
    },
    ticked: (keys) => {
      own = true;
      actsweep.select({ runs: keys.length ? keys : null });
      own = false;
    },
  });
  let known = null;
  document.addEventListener("actsweep:select", ({ detail }) => {
    const changed = detail.runs !== known;
    known = detail.runs;
    if (own || !changed) table.draw();
    else table.tick(detail.runs ?? [], detail.runs !== null);
  });
  document.addEventListener("actsweep:data", () => {
    actsweep.data = read();
    table.update(actsweep.columns(actsweep.data.columns), actsweep.data.runs);
  });

  // A table as it is sorted: with its columns' names, its numbers unrounded, an interval's ends in columns of their own.
  function tableCsv(table) {
    const heads = [...table.tHead.rows[0].cells];
    const names = heads.flatMap(({ dataset: { name, interval } }) => (interval === undefined ? [name] : [name, `${name}, 95 % low`, `${name}, 95 % high`]));
    const typed = (text) => (Number.isNaN(actsweep.filter.number(text)) ? text : Number(text));
    const values = (cell, { dataset: { interval } }) => {
      const { value = cell.textContent, low = "", high = "" } = cell.dataset;
      return (interval === undefined ? [value] : [value, low, high]).map((text) => (text === "–" ? "" : typed(text)));
    };
    return actsweep.csv(names, [...table.tBodies[0].rows].map((row) => [...row.cells].flatMap((cell, place) => values(cell, heads[place]))));
  }
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-csv]");
    if (button) actsweep.save(`${button.dataset.csv}.csv`, tableCsv(button.parentElement.previousElementSibling.querySelector("table")));
  });
  for (const button of document.querySelectorAll("button[data-csv]")) button.hidden = false;
}
