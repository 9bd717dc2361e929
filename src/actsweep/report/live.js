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

  // What is looked at stays where it is while something above it changes.
  function inPlace(change) {
    const places = [...document.querySelectorAll("#report h2[id], #report figure[id], #runs-box")];
    const seen = places.findLast((place) => place.getBoundingClientRect().top < innerHeight / 2)?.id;
    const top = () => document.getElementById(seen)?.getBoundingClientRect().top ?? 0;
    const before = top();
    change();
    scrollBy(0, top() - before);
  }

  // Sections that the page has anew replace the old ones; the table keeps filter, sort and ticks.
  function takeOver(page) {
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
  }

  const fetched = async (address) => {
    const answer = await fetch(address);
    if (!answer.ok) throw new Error(answer.statusText);
    return answer;
  };

  async function ask() {
    let now;
    try {
      now = await (await fetched("progress.json")).json();
      lost = 0;
      const text = now.version !== version && await (await fetched(location.pathname)).text();
      inPlace(() => {
        if (text) takeOver(new DOMParser().parseFromString(text, "text/html"));
        draw(now);
      });
      version = now.version;
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
