// A page that is watched: asks for progress, and takes over what is new where it stands.
{
  const { element, formatted } = actsweep;
  const [seconds, loaded] = (document.querySelector('meta[name="actsweep-live"]')?.content ?? "").split(" ").map(Number);
  const box = document.getElementById("progress");
  let version = loaded, lost = 0;

  function bar(share) {
    const percent = `${(100 * share).toFixed(0)} %`;
    return element("div", { class: "bar", role: "progressbar", "aria-valuenow": (100 * share).toFixed(0), "aria-valuemin": "0", "aria-valuemax": "100", "aria-label": "Epochs done" },
      element("span", { style: `width: ${100 * share}%` }), element("b", {}, percent));
  }

  function draw(now) {
    const facts = [now.counts];
    if (now.steps_per_second) facts.push(`${formatted(now.steps_per_second, "3g")} steps/s`);
    if (now.runs_per_hour) facts.push(`${formatted(now.runs_per_hour, "3g")} runs/h`);
    if (now.left) facts.push(`about ${now.left} left`);
    if (now.final) facts.push("the sweep has ended: this page is final");
    else if (!now.supervised && !now.ended) facts.push("nobody trains it now: actsweep resume goes on with it");
    const opened = box.querySelector("details")?.open ?? false;
    const heads = ["run", "state", "epoch", "steps/s", "left", "now"];
    const list = now.runs.length ? element("details", {}, element("summary", {}, `What each of ${now.runs.length} runs does now`),
      element("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Runs in training" }, element("table", {},
        element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, head)))),
        element("tbody", {}, ...now.runs.slice(0, 200).map((run) => element("tr", {}, ...[
          run.run, run.state, `${formatted(run.epoch, "4g")}/${run.epochs}`, formatted(run.steps_per_second, "3g"), run.left ?? "–", run.now || "–",
        ].map((text, place) => element("td", {}, place ? text : element("a", { href: `#run=${encodeURIComponent(text)}` }, text)))))))))
      : null;
    if (list) list.open = opened;
    box.replaceChildren(bar(now.share), element("p", { role: "status" }, facts.join(" · ")), ...(list ? [list] : []));
    box.hidden = false;
  }

  // Sections that the page has anew replace the old ones; table, ticks and scroll stay.
  async function takeOver() {
    const page = new DOMParser().parseFromString(await (await fetch(location.pathname)).text(), "text/html");
    const [x, y] = [scrollX, scrollY];
    const figures = page.getElementById("figures-data");
    if (figures && !document.getElementById("figures-data")) return location.reload();  // the first ones
    if (figures) document.getElementById("figures-data").textContent = figures.textContent;
    document.getElementById("data").textContent = page.getElementById("data").textContent;
    for (const section of document.querySelectorAll("[data-live]")) {
      const other = page.querySelector(`[data-live="${section.dataset.live}"]`);
      if (!other || section.innerHTML === other.innerHTML) continue;
      const opened = [...section.querySelectorAll("details")].map((details) => details.open);
      section.replaceChildren(...other.childNodes);
      section.querySelectorAll("details").forEach((details, place) => { details.open = opened[place] ?? false; });
      for (const button of section.querySelectorAll("button[data-csv]")) button.hidden = false;
    }
    document.dispatchEvent(new CustomEvent("actsweep:data"));
    scrollTo(x, y);
  }

  async function ask() {
    let now;
    try {
      const answer = await fetch("progress.json");
      if (!answer.ok) throw new Error(answer.statusText);
      now = await answer.json();
      lost = 0;
      if (now.version !== version) {
        await takeOver();
        version = now.version;
      }
      draw(now);
    } catch (failure) {
      if (++lost > 2) {
        box.append(element("p", { class: "bad" }, "actsweep watch doesn't answer any more: this page stays as it is."));
        return;
      }
    }
    if (!now?.final) setTimeout(ask, 1000 * seconds);
  }
  if (seconds) ask();
}
