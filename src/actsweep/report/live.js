// A page that is watched: asks for progress, and takes over what is new where it stands.
{
  const { element, formatted } = actsweep;
  const [seconds, loaded] = (document.querySelector('meta[name="actsweep-live"]')?.content ?? "").split(" ").map(Number);
  const box = document.getElementById("progress");
  let version = loaded, lost = 0;

  const HEADS = ["run", "state", "epoch", "steps/s", "left", "now"];
  const done = element("span"), percent = element("b"), facts = element("p", { role: "status" });
  const bar = element("div", { class: "bar", role: "progressbar", "aria-valuemin": "0", "aria-valuemax": "100", "aria-label": "Epochs done" }, done, percent);
  const summary = element("summary"), rows = element("tbody");
  const list = element("details", {}, summary,
    element("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Runs in training" }, element("table", {},
      element("thead", {}, element("tr", {}, ...HEADS.map((head) => element("th", { scope: "col" }, head)))), rows)));

  function draw(now) {
    const whole = (100 * now.share).toFixed(0);
    bar.setAttribute("aria-valuenow", whole);
    done.style.width = `${100 * now.share}%`;
    percent.textContent = `${whole} %`;
    const words = [now.counts];
    if (now.steps_per_second) words.push(`${formatted(now.steps_per_second, "3g")} steps/s`);
    if (now.runs_per_hour) words.push(`${formatted(now.runs_per_hour, "3g")} runs/h`);
    if (now.left) words.push(`about ${now.left} left`);
    if (now.final) words.push("the sweep has ended: this page is final");
    else if (!now.supervised && !now.ended) words.push("nobody trains it now: actsweep resume goes on with it");
    facts.textContent = words.join(" · ");
    list.hidden = !now.runs.length;
    summary.textContent = `What each of ${now.runs.length} runs does now`;
    rows.replaceChildren(...now.runs.slice(0, 200).map((run) => element("tr", {}, ...[
      run.run, run.state, `${formatted(run.epoch, "4g")}/${run.epochs}`, formatted(run.steps_per_second, "3g"), run.left ?? "–", run.now || "–",
    ].map((text, place) => element("td", {}, place ? text : element("a", { href: `#run=${encodeURIComponent(text)}` }, text))))));
    if (box.hidden) box.replaceChildren(bar, facts, list);
    box.hidden = false;
  }

  // What is looked at stays where it is while something above it changes.
  function inPlace(change) {
    const places = [...document.querySelectorAll("#report h2[id], #report figure[id], #runs-box")];
    const seen = places.findLast((place) => place.getBoundingClientRect().top < innerHeight / 2)?.id;
    const top = () => document.getElementById(seen)?.getBoundingClientRect().top ?? 0;
    const before = top();
    change();
    if (scrollY > 0) scrollBy(0, top() - before);
  }

  // Sections that the page has anew replace the old ones; the table keeps filter, sort and ticks.
  function takeOver(page) {
    const figures = page.getElementById("figures-data");
    if (figures && !document.getElementById("figures-data")) return location.reload();  // the first ones
    const drawn = document.getElementById("figures-data");
    if (drawn) drawn.textContent = figures?.textContent ?? '{"charts": [], "groups": []}';
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
      inPlace(() => actsweep.keeping(document.body, () => {
        if (text) takeOver(new DOMParser().parseFromString(text, "text/html"));
        draw(now);
      }));
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
