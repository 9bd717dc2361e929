"""What the site holds beside docs/: other pages of the repository, and some made of the code."""

import dataclasses
import inspect
import json
import posixpath
import re
import textwrap
from pathlib import Path
from typing import Any

from catalogue import activation_page, names
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
ELSEWHERE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "slurm/README.md": "slurm.md",
    "LICENSE": "LICENSE.txt",
    "CITATION.cff": "CITATION.cff",
    "benchmarks/results/cpu-2-cores.json": "benchmarks/cpu-2-cores.json",
}
"""Files of the repository -> where the site has them; links are changed accordingly."""

HOME = {page: file for file, page in ELSEWHERE.items()}
NAMED_BY_FILE = re.compile(r"\[(?P<file>[\w./-]+\.md)\](?=\((?P<target>[^)#\s]+\.md)\))")
LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)(?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?(?=\))")
FOUND_FIRST = {"questions.md": 3, "commands.md": 2, "cluster.md": 2, "tutorial.md": 2}
FOUND_LAST = {
    "changelog.md": 0.1,
    "architecture.md": 0.3,
    "claims.md": 0.5,
    "contributing.md": 0.5,
    "gallery.md": 0.5,
}
GROUP_ORDER = ("act", "depth", "init", "optim", "model", "data", "callbacks", "logger")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add a page for each activation to the navigation, below their table."""
    for section in config.nav or []:
        for entries in section.values():
            for i, entry in enumerate(entries):
                if isinstance(entry, dict) and entry.get("Activations") == "activations.md":
                    pages: list[Any] = [{name: f"activations/{name}.md"} for name in names()]
                    entries[i] = {"Activations": ["activations.md", *pages]}
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the repository's other pages, and those that are made of the code."""
    for file, page in ELSEWHERE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / file)))
    for name in names():
        page = f"activations/{name}.md"
        files.append(File.generated(config, page, content=activation_page(name)))
    files.append(File.generated(config, "commands.md", content=commands_page()))
    files.append(File.generated(config, "options.md", content=options_page(ROOT / "conf")))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Change links to where the site has their targets; link activations to their pages."""
    source = page.file.src_uri
    if boost := (FOUND_FIRST | FOUND_LAST).get(source):
        page.meta["search"] = {"boost": boost}
    if source == "activations.md":
        known = "|".join(names())
        markdown = re.sub(rf"(?m)^\| `({known})` \|", r"| [`\1`](activations/\1.md) |", markdown)
    markdown = NAMED_BY_FILE.sub(lambda link: f"[{_title(source, link)}]", markdown)
    return LINK.sub(lambda link: _in_the_site(source, link), markdown)


def _title(page: str, link: re.Match[str]) -> str:
    """Return the title of a page that a link calls by its file's name."""
    file = ROOT / posixpath.dirname(HOME.get(page, f"docs/{page}")) / link["target"]
    first = file.read_text().partition("\n")[0] if file.is_file() else ""
    return first.removeprefix("# ") or link["file"]


def _in_the_site(page: str, link: re.Match[str]) -> str:
    folder = posixpath.dirname(HOME.get(page, f"docs/{page}"))
    target = posixpath.normpath(posixpath.join(folder, link["target"]))
    place = ELSEWHERE.get(target, target.removeprefix("docs/"))
    return posixpath.relpath(place, posixpath.dirname(page) or ".") + (link["anchor"] or "")


def commands_page() -> str:
    """Return what `--help` says of every command."""
    from actsweep.cli.main import command_line

    made = command_line().generate_docs(output_format="markdown", include_hidden=False)
    commands = made.partition("## Table of Contents")[2].partition("\n## ")[2]
    made = made.replace("(#actsweep-install-", "(#actsweep---install-")  # as the heading's anchor
    commands = commands.replace("(#actsweep-install-", "(#actsweep---install-")
    listed = re.search(r"\*\*Commands\*\*:\n\n(.*?)\n\n", made, re.DOTALL)
    assert listed is not None
    head = (
        "# Commands\n\nAs `actsweep --help` and `actsweep <command> --help` have them. What "
        "`actsweep train` takes, the same as `python train.py`, is under [options](options.md).\n\n"
    )
    return f"{head}{listed[1]}\n\n## {commands}"


def options_page(conf: Path) -> str:
    """Return every group of options with its files, and what `train.py --help` says."""
    config = (conf / "config.yaml").read_text()
    _, _, rest = config.partition("      Most used overrides\n")
    used, _, _ = rest.partition("\n\n")
    parts = [
        "# Options",
        "What can be typed after `python train.py` or `actsweep train`: `group=option` chooses a "
        "file, `key=value` changes a key. `--cfg job` prints the whole configuration; any of its "
        "keys can be typed.",
        f"## Most used\n\n```text\n{textwrap.dedent(used)}\n```",
        f"## Defaults\n\n{_yaml(config.partition('hydra:')[0])}",
        *keys(),
    ]
    folders = sorted({file.parent for file in conf.rglob("*.yaml")} - {conf, conf / "local"})
    groups = {folder.relative_to(conf).as_posix(): folder for folder in folders}
    first = [name for name in GROUP_ORDER if name in groups]
    for name in [*first, *sorted(groups.keys() - {*first})]:
        parts.append(f"## {name}")
        if name == "act":
            parts.append("[Activations](activations.md) has them all, with their parameters.")
            continue
        for file in sorted(groups[name].glob("*.yaml")):
            parts.append(f"### `{name}={file.stem}`\n\n{_yaml(file.read_text())}")
    return "\n\n".join(parts) + "\n"


def keys() -> list[str]:
    """Return the keys of each part of a run's configuration, with their defaults."""
    from actsweep.config import schema

    parts = ["## Keys", "Null means: as follows from the rest, or none."]
    for part in dataclasses.fields(schema.RunConfig):
        default = part.default_factory() if callable(part.default_factory) else part.default
        if not dataclasses.is_dataclass(default):
            continue
        rows = "".join(
            f"| `{part.name}.{key.name}` | {_default(getattr(default, key.name))} |"
            f" {_allowed(f'{part.name}.{key.name}')} |\n"
            for key in dataclasses.fields(default)
            if (part.name, key.name) != ("pack", "members")
        )
        what = textwrap.dedent(inspect.getdoc(type(default)) or "")
        parts.append(
            f"### {part.name}\n\n{what}\n\n| key | default | one of |\n|---|---|---|\n{rows}"
        )
    return parts


def _default(value: Any) -> str:
    if dataclasses.is_dataclass(value):
        pairs = [f"{key}: {val}" for key, val in vars(value).items()]
        return f"`{{{', '.join(pairs)}}}`"
    return f"`{json.dumps(value)}`".replace('"', "")


def _allowed(key: str) -> str:
    from actsweep.config import schema

    names = {
        "optim.name": schema.OPTIMISERS,
        "optim.schedule": schema.SCHEDULES,
        "init.name": schema.INITS,
        "model.name": schema.MODELS,
        "data.name": schema.DATASETS,
        "data.augment": schema.AUGMENTS,
        "data.level": schema.LEVELS,
        "data.task": schema.TASKS,
        "data.stream": [json.dumps(value).strip('"') for value in schema.STREAMS],
        "loss.name": schema.LOSSES,
        "trainer.precision": schema.PRECISIONS,
        "pack.batching": schema.BATCHINGS,
    }
    return ", ".join(f"`{name}`" for name in names.get(key, ()))


def _yaml(text: str) -> str:
    return f"```yaml\n{text.rstrip()}\n```"
