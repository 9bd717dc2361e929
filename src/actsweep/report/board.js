// The table of all sweeps: each leads to its report, ticked ones to a report of all of them.
{
  const { element } = actsweep;
  const place = document.getElementById("data"), late = document.getElementById("late");
  const data = JSON.parse(place.textContent);
  const address = (keys) => `/report?${keys.map((key) => `sweep=${encodeURIComponent(key)}`).join("&")}`;
  let ticked = [];
  const together = element("button", { type: "button", disabled: true, onclick: () => {
    together.disabled = true;
    together.textContent = "Making the report …";
    location.href = address(ticked);
  } });
  const label = () => {
    together.disabled = ticked.length < 2;
    together.textContent = ticked.length < 2 ? "Tick two to overlay them" : `One report of ${ticked.length} sweeps`;
  };
  label();
  const table = actsweep.table({
    box: document.getElementById("sweeps-box"), name: "sweeps", label: "Sweeps", keys: data.keys,
    columns: actsweep.columns(data.columns), link: (key) => address([key]), buttons: [together],
    example: "command ~ digits and complete > 3",
    ticked: (keys) => { ticked = keys; label(); },
  });
  addEventListener("pageshow", label);  // back from a report

  async function ask() {
    try {
      const answer = await fetch("/board.json");
      if (!answer.ok) throw new Error(answer.statusText);
      const now = await answer.json();
      table.update(actsweep.columns(now.columns), now.keys);
      late.hidden = true;
    } catch {
      late.hidden = false;
    }
    setTimeout(ask, 1000 * Number(place.dataset.seconds));
  }
  setTimeout(ask, 1000 * Number(place.dataset.seconds));
}
