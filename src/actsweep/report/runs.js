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

  document.addEventListener("click", (event) => {
    const name = event.target.closest("button[data-csv]")?.dataset.csv;
    if (name) actsweep.save(`${name}.csv`, actsweep.data.csv[name]);
  });
  for (const button of document.querySelectorAll("button[data-csv]")) button.hidden = false;
}
