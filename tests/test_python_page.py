"""docs/python.md, run as it stands, block after block; once in a notebook's kernel."""

import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_app import logging_as_before  # noqa: F401

from actsweep.cli.main import main

PAGE = (Path(__file__).parents[1] / "docs" / "python.md").read_text()
NAME = r"`([\w/]+)`"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def keys(title: str) -> set[str]:
    """The keys in the first column of the table that follows some words."""
    table = PAGE.split(title)[1].split("|---|---|\n")[1].split("\n\n")[0]
    return {name for row in table.splitlines() for name in re.findall(NAME, row.split("|")[1])}


def printed_json(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    capsys.readouterr()
    assert main(list(words)) == 0
    return json.loads(capsys.readouterr().out)


def test_page(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    logging_as_before: None,  # noqa: F811
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks("python"):
        exec(block, names)
    assert names["sweep"].runs["state"].tolist() == ["complete"] * 6
    assert len(names["metrics"]) == 6 * 4 * 4  # runs, epochs from 0 on, metrics
    assert {*names["curves"].dims} == {"run_id", "step"}
    assert {*names["comparison"].groups} == {("elu",), ("relu",)}
    assert names["comparison"].measure.margin == pytest.approx(0.01)
    assert (tmp_path / "accuracy.pdf").read_bytes().startswith(b"%PDF")
    assert "<svg" in (tmp_path / "layers.svg").read_text()
    assert names["page"].is_file()
    right = np.mean(names["predicted"] == names["data"].test_y)
    assert right == pytest.approx(names["run"].summary["test_accuracy"], abs=1e-6)

    sweep = ["--outputs", "outputs", names["sweep"].name]
    assert {*printed_json(capsys, "compare", *sweep, "--json")} == keys("Keys of `compare`")
    status = printed_json(capsys, "status", *sweep, "--json")
    assert {*status} == keys("Keys of `status`")
    row = next(line for line in PAGE.splitlines() if line.startswith("| `runs` |"))
    assert {*status["runs"][0]} == {*re.findall(NAME, row)} - {"runs"}
    for line in blocks("bash")[0].splitlines():
        words = shlex.split(line)
        assert main([*words[1:2], names["sweep"].name, *words[2:], "--outputs", "outputs"]) == 0
        assert os.path.exists(words[-1])


def test_page_in_a_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    source = str(Path(__file__).parents[1] / "src")
    monkeypatch.setenv("PYTHONPATH", source)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    cells = [nbformat.v4.new_code_cell(block) for block in blocks("python")]
    cells.append(nbformat.v4.new_code_cell("assert 'relu' in sweep._repr_html_()"))
    notebook = nbformat.v4.new_notebook(cells=cells)
    client = nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    shown = [
        kind
        for cell in notebook.cells
        for output in cell.outputs
        for kind in output.get("data", ())
    ]
    assert "text/html" in shown
    assert any("vegaEmbed" in str(cell.outputs) for cell in notebook.cells)
    assert "6 complete" in str(notebook.cells[0].outputs)
