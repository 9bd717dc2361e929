"""The documentation's site: built strictly, whole without a network, and searched in a browser."""

import doctest
import os
import re
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

import actsweep
import actsweep.callbacks
import actsweep.data
from actsweep.activations import ACTIVATIONS
from actsweep.data import dataset
from actsweep.loggers import base
from actsweep.theory import critical, mean_field, units

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
REFERENCE = {page.name: page.read_text() for page in (DOCS / "reference").glob("*.md")}
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "use": "href"}
"""Elements -> the attribute whose address a browser fetches by itself."""
LINKS = ("stylesheet", "icon", "preload", "preconnect", "dns-prefetch", "prefetch", "manifest")
SECONDS = 60
SEARCHES = {
    "slurm": "cluster.html",
    "gelu": "activations/gelu.html",
    "add an activation": "questions.html#add-an-activation",
    "early stopping": "questions.html#set-batch-size",
    "learning rate schedule": "questions.html#change-the-optimiser",
    "EarlyStop": "reference/callbacks.html",
    "smallest gradient": "questions.html#see-which-layer",
    "latex": "python.html#for-a-paper",
}
"""What a newcomer types -> a page that is found."""
BADLY_INDENTED = re.compile(r"^ {1,3}(?:- |\d+\. |\||```)")


class Elements(HTMLParser):
    """Counts a page's elements, and notes what it fetches."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1
        given = dict(attrs)
        own = LOADED.get(tag)
        if tag == "link" and {*(given.get("rel") or "").split()} & {*LINKS}:
            own = "href"
        if own and (address := given.get(own)):
            self.fetched.append(address)


def is_elsewhere(address: str) -> bool:
    return re.match(r"(?:[a-z]+:)?//", address) is not None


@pytest.mark.parametrize(
    ("module", "page"),
    [
        (actsweep, "actsweep.md"),
        (actsweep.activations, "activations.md"),
        (actsweep.callbacks, "callbacks.md"),
        (actsweep.data, "data.md"),
    ],
)
def test_every_public_name_is_in_the_reference(module: Any, page: str) -> None:
    text = REFERENCE[page]
    for name in {*module.__all__} - {"__version__"}:
        assert re.search(rf"(?m)^::: .*\.{name}$|[\[ ]{name}[,\]]", text), name


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.stem)
def test_lists_are_read_alike_by_every_kind_of_markdown(page: Path) -> None:
    """What stands in a list is indented by four spaces, and a list or a table follows a blank."""
    before, in_code = "", False
    for line in page.read_text().splitlines():
        code = line.lstrip().startswith("```")
        assert in_code or not BADLY_INDENTED.match(line), line
        begins = re.match(r"- |\||\d+\. ", line)
        goes_on = re.match(r"- |\||\d+\. | ", before)
        if begins and not in_code and before.strip() and not goes_on:
            assert before.startswith("<!--"), line
        before, in_code = line, in_code != code


@pytest.mark.parametrize(
    "module", [base, critical, dataset, mean_field, units], ids=lambda module: module.__name__
)
def test_examples_in_docstrings(module: Any) -> None:
    """Those that need no trained runs."""
    failed, tried = doctest.testmod(module)
    assert tried
    assert not failed


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site once: a warning is an error."""
    folder = tmp_path_factory.mktemp("docs") / "site"
    known = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": known, "NO_MKDOCS_2_WARNING": "1"}
    began = os.times()
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(folder)],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=500,
    )
    ended = os.times()
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    took = ended.children_user + ended.children_system
    assert took - began.children_user - began.children_system < SECONDS
    return folder


@pytest.mark.slow
def test_nothing_is_fetched_from_a_network(site: Path) -> None:
    pages = [*site.rglob("*.html")]
    assert len(pages) > len(ACTIVATIONS) + 30
    for page in pages:
        elsewhere = [a for a in Elements(page.read_text()).fetched if is_elsewhere(a)]
        assert not elsewhere, page
    styles = [*site.rglob("*.css")]
    assert styles
    for style in styles:
        addresses = re.findall(r"(?:url\(|@import )[\"']?([^\"')\s]+)", style.read_text())
        assert not [*filter(is_elsewhere, addresses)], style


@pytest.mark.slow
def test_pages_are_read_as_a_code_host_reads_them(site: Path) -> None:
    """As many tables, cells, items and blocks of code as another reader of Markdown finds."""
    github = MarkdownIt("commonmark").enable("table")
    for page in sorted(DOCS.glob("*.md")):
        html = (site / f"{page.stem}.html").read_text()
        article = html.partition("<article")[2].partition("</article>")[0]
        shown = Elements(article.partition('<aside class="md-source')[0]).counts
        text = github.render(page.read_text())
        expected = Elements(text).counts
        for tag in ("table", "td", "li", "pre", "h2", "h3", "img", "ol", "ul"):
            assert shown.get(tag, 0) == expected.get(tag, 0), (page.name, tag)


@pytest.mark.slow
def test_names_of_the_reference_have_headings(site: Path) -> None:
    """Below the page's own, so that its table of contents lists them."""
    for name in REFERENCE:
        html = (site / "reference" / name.replace(".md", ".html")).read_text()
        assert html.count("<h1") == 1
        assert len(re.findall(r'<h[23] id="actsweep\.', html)) > 1


@pytest.mark.slow
def test_each_activation_has_its_facts_and_curves(site: Path) -> None:
    for name, act in ACTIVATIONS.items():
        text = (site / "activations" / f"{name}.html").read_text()
        assert f"act={name}" in text
        assert text.count('class="value"') == 1
        assert text.count('class="derivative"') == (act.units == "elementwise")
    table = (site / "activations.html").read_text()
    assert {*re.findall(r'href="activations/(\w+)\.html"><code>', table)} == {*ACTIVATIONS}


def resize(browser: Any, width: int) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


@pytest.mark.slow
def test_a_newcomer_searches(site: Path, browser: Any) -> None:
    """Opened as files, without a server: what is searched is found, and nothing goes wrong."""
    resize(browser, 1440)
    for words, page in SEARCHES.items():
        browser.get((site / "index.html").as_uri())
        box = browser.find_element("css selector", "input.md-search__input")
        box.click()
        box.send_keys(words)
        end, found = time.monotonic() + 60, []
        while time.monotonic() < end and not any(page in link for link in found):
            time.sleep(0.1)
            script = (
                "return [...document.querySelectorAll('a.md-search-result__link')].map(a => a.href)"
            )
            found = [re.sub(r"\?[^#]*", "", link) for link in browser.execute_script(script)]
        assert any(page in link for link in found), (words, found)
    errors = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert not errors


@pytest.mark.slow
@pytest.mark.parametrize("width", [1440, 390])
def test_no_page_is_wider_than_its_window(site: Path, browser: Any, width: int) -> None:
    resize(browser, width)
    for page in ("index", "tutorial", "commands", "activations/rational", "reference/callbacks"):
        browser.get((site / f"{page}.html").as_uri())
        script = "return document.documentElement.scrollWidth"
        assert browser.execute_script(script) <= width, page
    errors = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert not errors
