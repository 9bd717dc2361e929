"""The language of filters: the page and --where understand the same, and what it means is told."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from selenium import webdriver
from test_compare import entry

from actsweep.report.design import where
from actsweep.report.expressions import _rounded, parse, text_of
from actsweep.report.run_columns import RunColumn
from actsweep.utils.errors import UserError

ROWS: list[dict[str, Any]] = [
    {"run": "relu-s0", "act": "relu", "lr": 0.1, "acc": 86.5, "ok": True, "note": None},
    {"run": "relu-s1", "act": "relu", "lr": 0.3, "acc": 85.0, "ok": False, "note": "a (b) or c"},
    {"run": "elu-s0", "act": "elu", "lr": 0.1, "acc": None, "ok": None, "note": "not this"},
    {
        "run": "mix-s0",
        "act": "relu, hidden_1 tanh",
        "lr": 1e-05,
        "acc": 90.0,
        "ok": True,
        "note": "1",
    },
    {"run": "leaky-s0", "act": "leaky_relu", "lr": 1.0, "acc": -1.5, "ok": True, "note": "ELU"},
]
PATHS = {"act": "act.name"}
SHOWN = ("run", "act", "acc", "note")
COLUMNS = [
    *(
        RunColumn(PATHS.get(name, name), name, [r[name] for r in ROWS], "", name in SHOWN)
        for name in ROWS[0]
    ),
    RunColumn("test_accuracy", "test accuracy, %", [row["acc"] for row in ROWS], "4g"),
    RunColumn("dead_frac", "dead units, %", [300 / 92, 0.125, None, -2.5, 100 / 3], "2f"),
    RunColumn("test_loss", "test loss", [0.28365, 1e-7 / 3, 0.0, None, 12345.0], "4g"),
]

Row = Mapping[str, Any]
MEANINGS: list[tuple[str, Callable[[Row], bool]]] = [
    ("", lambda _: True),
    ("act == relu", lambda r: r["act"] == "relu"),
    ("act.name == RELU", lambda r: r["act"] == "relu"),
    ("act != relu", lambda r: r["act"] != "relu"),
    ('act == "relu, hidden_1 tanh"', lambda r: "tanh" in r["act"]),
    ("act ~ relu", lambda r: "relu" in r["act"]),
    ("relu", lambda r: r["act"] in ("relu", "relu, hidden_1 tanh")),
    ("elu", lambda r: r["act"] == "elu" or r["note"] == "ELU"),
    ("lr == 1e-5", lambda r: r["lr"] == 1e-5),
    ("lr==.1", lambda r: r["lr"] == 0.1),
    ("lr == 0.1 and acc > 86", lambda r: r["lr"] == 0.1 and (r["acc"] or 0) > 86),
    ("acc >= 86.5", lambda r: r["acc"] is not None and r["acc"] >= 86.5),
    ("acc < 0", lambda r: r["acc"] is not None and r["acc"] < 0),
    ("acc <= -1.5", lambda r: r["acc"] is not None and r["acc"] <= -1.5),
    ("not acc > 0", lambda r: not (r["acc"] is not None and r["acc"] > 0)),
    ("acc == –", lambda r: r["acc"] is None),
    ('"test accuracy, %" > 86', lambda r: (r["acc"] or 0) > 86),
    ("test_accuracy > 86", lambda r: (r["acc"] or 0) > 86),
    ("dead_frac == 3.26", lambda r: r["run"] == "relu-s0"),  # as it is shown
    ("dead_frac == 3.261", lambda _: False),
    ("dead_frac == 0.13", lambda r: r["run"] == "relu-s1"),  # a browser rounds halves up
    ("dead_frac == 0.125", lambda r: r["run"] == "relu-s1"),
    ("dead_frac == -2.5", lambda r: r["run"] == "mix-s0"),
    ('"dead units, %" != 33.33', lambda r: r["run"] != "leaky-s0"),
    ("test_loss == 0.2837 or test_loss == 0.2836", lambda r: r["run"] == "relu-s0"),
    ("test_loss == 3.333e-8", lambda r: r["run"] == "relu-s1"),
    ("test_loss == 0", lambda r: r["run"] == "elu-s0"),
    ("test_loss == 12350", lambda r: r["run"] == "leaky-s0"),
    ("ok == true", lambda r: r["ok"] is True),
    (
        "act == elu or act == relu and lr > 0.2",
        lambda r: r["act"] == "elu" or (r["act"] == "relu" and r["lr"] > 0.2),
    ),
    (
        "(act == elu or act == relu) and lr > 0.2",
        lambda r: r["act"] in ("elu", "relu") and r["lr"] > 0.2,
    ),
    ("not (elu or relu)", lambda r: r["act"] == "leaky_relu" and r["note"] != "ELU"),
    ("not elu lr < 1", lambda r: r["act"] != "elu" and r["lr"] < 1),
    ("relu AND NOT tanh", lambda r: r["act"] == "relu"),
    ("note == 'not this'", lambda r: r["note"] == "not this"),
    ("note ~ '(b) or'", lambda r: "(b) or" in (r["note"] or "")),
    ('"or"', lambda r: "or" in (r["note"] or "").split()),
    ("note == 1.0", lambda r: r["note"] == "1"),
]
MISTAKES = [
    ("akt == relu", "akt: no such column; there are run, act, acc, note, and those under Columns"),
    ("act ==", "act ==: needs a value"),
    ("act == and", "act ==: needs a value"),
    ("== relu", "==: needs a column before it"),
    ("acc > good", "acc > good: good isn't a number"),
    ("act = relu", "=: not understood; == != < <= > >= ~ compare"),
    ("(act == relu", "(: isn't closed"),
    ("act == relu)", "): nothing to close"),
    ("()", "): nothing to close"),
    ("relu or", "something is missing at the end"),
    ("not", "something is missing at the end"),
    ("not ok", 'ok: is a column; compare it, ok == value, or quote the word: "ok"'),
    ("act in relu", 'act: is a column; compare it, act == value, or quote the word: "act"'),
    ("relu in elu", "in: compare with each value, (act == relu or act == tanh)"),
    ("and relu", "and: needs something before it"),
    ('act == "relu', "\": isn't closed"),
]


def kept(text: str) -> list[bool]:
    test = parse(text, COLUMNS)
    return [test(place) for place in range(len(ROWS))]


@pytest.mark.parametrize(("text", "meaning"), MEANINGS, ids=[text for text, _ in MEANINGS])
def test_what_an_expression_means(text: str, meaning: Callable[[Row], bool]) -> None:
    assert kept(text) == [meaning(row) for row in ROWS]


@pytest.mark.parametrize(("text", "line"), MISTAKES, ids=[text for text, _ in MISTAKES])
def test_a_mistake_in_an_expression(text: str, line: str) -> None:
    with pytest.raises(UserError) as error:
        parse(text, COLUMNS)
    assert str(error.value) == line


def random_expressions(count: int) -> list[str]:
    rng = np.random.default_rng(0)
    pieces = [
        "(",
        ")",
        "and",
        "or",
        "not",
        "==",
        "!=",
        "<",
        ">=",
        "~",
        "act",
        "lr",
        "acc",
        "note",
        "ok",
    ]
    pieces += ["relu", "elu", "0.1", "86", '"or"', "'not this'", "true", "–", "=", '"']  # fmt: skip
    return [" ".join(rng.choice(pieces, rng.integers(1, 8))) for _ in range(count)]


IN_BROWSER = """
const [columns, texts] = arguments, out = [];
const made = columns.map((c) => ({ ...c, value: (row) => c.values[row] }));
for (const text of texts) {
  try {
    const test = actsweep.filter.parse(text, made);
    out.push(columns[0].values.map((_, row) => test(row)));
  } catch (error) {
    if (!(error instanceof actsweep.filter.FilterError)) throw error;
    out.push(error.message);
  }
}
return out;
"""


def here(text: str) -> Any:
    try:
        return kept(text)
    except UserError as error:
        return str(error)


def test_the_page_understands_the_same(browser: webdriver.Chrome, tmp_path: Path) -> None:
    """Every meaning, every mistake, and what a monkey types."""
    texts = [text for text, _ in itertools.chain(MEANINGS, MISTAKES)] + random_expressions(5000)
    script = files("actsweep.report").joinpath("filter.js").read_text()
    (tmp_path / "x.html").write_text(f"<meta charset=utf-8><script>{script}</script>")
    browser.get((tmp_path / "x.html").as_uri())
    columns = [
        {"name": c.name, "title": c.title, "shown": c.shown, "values": list(c.values)}
        | {"digits": c.digits}
        for c in COLUMNS
    ]
    answers: Sequence[Any] = browser.execute_script(IN_BROWSER, columns, texts)
    expected = [here(text) for text in texts]
    differ = [row for row in zip(texts, answers, expected, strict=True) if row[1] != row[2]]
    assert differ == []
    assert sum(isinstance(answer, list) for answer in expected) > 300


def test_numbers_as_text_are_those_of_a_browser(browser: webdriver.Chrome) -> None:
    random = np.random.default_rng(0)
    values = [*10.0 ** random.uniform(-12, 25, 2000), 1e-6, 9.9e-7, 1e21, 1e20, 5e-5, -1.5e-7, -0.0]
    values = [float(value) for value in values]
    browser.get("data:text/html,")
    texts = browser.execute_script("return arguments[0].map(String)", values)
    assert [text_of(value) for value in values] == texts


def test_numbers_are_rounded_as_a_browser_does(browser: webdriver.Chrome) -> None:
    random = np.random.default_rng(1)
    values = [*10.0 ** random.uniform(-12, 25, 1000), *random.integers(-4000, 4000, 1000) / 16, 0.0]
    values = [float(value) for value in values]
    browser.get("data:text/html,")
    script = "return arguments[0].map((v) => [Number(v.toFixed(2)), Number(v.toPrecision(4))])"
    shown = browser.execute_script(script, values)
    assert [[_rounded(v, digits) for digits in ("2f", "4g")] for v in values] == shown


def test_numbers_as_text_are_those_of_javascript() -> None:
    small = {5e-5: "0.00005", 1e-6: "0.000001", 1e-7: "1e-7", -2.5e-8: "-2.5e-8", 1e21: "1e+21"}
    assert {value: text_of(value) for value in small} == small
    assert [text_of(v) for v in (0.1, 2.0, -3, True, None)] == ["0.1", "2", "-3", "true", "–"]


def runs() -> list[Any]:
    return [
        entry(0.8 + seed / 100, act=act, seed=seed, optim={"lr": lr})
        for act in ("relu", "elu")
        for lr in (0.1, 0.3)
        for seed in range(2)
    ]


def test_where_takes_expressions_and_lists() -> None:
    chosen = where(runs(), ["act == elu and lr > 0.2", "seed=0"])
    assert [
        (e.config["act"]["name"], e.config["optim"]["lr"], e.config["seed"]) for e in chosen
    ] == [("elu", 0.3, 0)]
    assert len(where(runs(), ["test_accuracy > 80.5"])) == 4  # in percent, as shown
    assert len(where(runs(), ["elu"])) == 4
    assert where(runs(), ["act=elu,relu"]) == where(runs(), ["act == elu or act == relu"])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("akt == relu", "--where 'akt == relu': akt: no such column; there are run, state, act, "),
        ("lr > 5", "--where 'lr > 5': no run of 8 meets it"),
        ("lr >", "--where 'lr >': lr >: needs a value"),
    ],
)
def test_a_where_that_isn_t_understood(text: str, line: str) -> None:
    with pytest.raises(UserError) as error:
        where(runs(), [text])
    assert str(error.value).startswith(line)
