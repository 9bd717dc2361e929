"""The command `actsweep theory`: what can be said of a network without training it."""

import functools
import hashlib
import itertools
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from rich.table import Table

from actsweep.config import identity, resolve
from actsweep.config.compose import act_option, checked
from actsweep.config.conf_dir import conf_dir
from actsweep.config.error_messages import explain
from actsweep.config.overrides import bare_all, expand_all
from actsweep.config.schema import RunConfig
from actsweep.formulas import grammar
from actsweep.sweeps.table import plain_console
from actsweep.theory.card import card
from actsweep.theory.critical import with_critical
from actsweep.theory.networks import input_moments
from actsweep.theory.transforms import with_transform
from actsweep.theory.twins import tell
from actsweep.utils.errors import UserError
from actsweep.utils.files import finite, read_json, write_json

VERSION = 2
"""Of what is computed: raised when cards change."""
EXAMPLES = 1000
"""Of the training set, for q_0 and c_0."""
COUNTED = ("act", "init", "depth", "model")
HIDDEN = ("name", "formula", "by_layer")
"""Keys of `act` that are no parameters."""
SHOWN_LAYERS = (1, 2, 3, 5, 10, 20, 50, 100, 200)
Card = dict[str, Any]


def show(
    runs: Sequence[RunConfig],
    outputs: Path,
    *,
    q0: float | None,
    c0: float | None,
    data: bool,
    as_json: bool,
) -> None:
    """Print a card for each run, and a table of all.

    A card is kept as JSON, and drawn, in OUTPUTS/theory; the same run is answered from there.

    Args:
        runs: from `runs_of`.
        outputs: `paths.outputs`.
        q0, c0: mean square of the inputs' features, cosine of two inputs; by default 1 and 0.
        data: whether to measure both on the training set instead.
        as_json: print the cards as JSON, and draw nothing.

    Raises:
        UserError: bad input, or no theory here for such a network.
    """
    _check_inputs(q0, c0, data)
    if os.getcwd() not in sys.path:  # the user's own code
        sys.path.insert(0, os.getcwd())
    tell(run.act for run in runs)
    folder = outputs / "theory"
    cards: dict[str, Card] = {}
    drawn: dict[str, RunConfig] = {}
    for run in runs:
        q_0, c_0, inputs = _measured(run) if data else (1.0 if q0 is None else q0, c0 or 0.0, None)
        name = card_name(run, q_0, c_0, inputs)
        kept = read_json(folder / f"{name}.json")
        cards[name] = kept or finite(card(run, q_0, c_0, inputs))
        drawn[name] = run
    _keep(cards, folder)
    if as_json:
        print(json.dumps([*cards.values()], indent=2, allow_nan=False))
        return
    for content in cards.values():
        print_card(content)
    print_table([*cards.values()])
    _draw(cards, drawn, folder)


def _check_inputs(q0: float | None, c0: float | None, data: bool) -> None:
    for option, value in (("--q0", q0), ("--c0", c0)):
        if data and value is not None:
            raise UserError(f"{option}: not with --data, which measures it; leave one of them out")
    if q0 is not None and not 0 < q0 < 1e30:
        raise UserError(f"--q0={q0}: must be a number above 0; type for example --q0 1.0")
    if c0 is not None and not -1 <= c0 <= 1:
        raise UserError(f"--c0={c0}: must be a number from -1 to 1; type for example --c0 0.0")


def runs_of(words: Sequence[str], config_dir: Path | None = None) -> list[RunConfig]:
    """Return the run of every combination of the words' values, checked.

    Args:
        words: overrides, in which several values make several runs.
        config_dir: a folder with further groups.

    Raises:
        UserError: as when they are trained.
    """
    if config_dir is not None:
        if not config_dir.is_dir():
            raise UserError(f"--config-dir={config_dir}: no such folder; type that of your groups")
        words = [*words, f"hydra.searchpath=[file://{config_dir.absolute()}]"]
    if unfit := [word for word in words if "=" not in word]:
        raise UserError(f"{unfit[0]}: must be KEY=VALUE; type for example act=tanh,relu")
    resolve.register()
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            return [_run(combination) for combination in _combinations(words)]
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error)) from error


def _combinations(words: Sequence[str]) -> list[list[str]]:
    parser = OverridesParser.create()
    columns = []
    for override in parser.parse_overrides(bare_all(expand_all(words))):
        key = override.get_key_element()
        swept = override.is_sweep_override()
        values = (
            override.sweep_string_iterator() if swept else [override.get_value_element_as_str()]
        )
        columns.append([f"{key}={value}" for value in values])
    return [[*combination] for combination in itertools.product(*columns)]


def _run(words: Sequence[str]) -> RunConfig:
    expanded = expand_all(words)
    composed = compose("config", expanded, return_hydra_config=True)
    option_of = functools.partial(act_option, GlobalHydra.instance().config_loader())
    run = checked(resolve.typed(composed), expanded, composed.hydra.runtime.choices, option_of)
    return with_critical(with_transform(run)[0])[0]


def _measured(run: RunConfig) -> tuple[float, float, int]:
    """Return q_0, c_0 and the width of an example, of the first examples for training."""
    from actsweep.data import load

    dataset = load(run.data, lambda line: print(line, file=sys.stderr))
    x = dataset.train_x[:EXAMPLES] * dataset.scale + dataset.offset
    return *input_moments(x), x[0].size


def card_name(run: RunConfig, q_0: float, c_0: float, inputs: int | None) -> str:
    """Return the name of a card's files, which all that decides about it is part of."""
    plain = resolve.to_dict(run)
    counted = {key: plain[key] for key in COUNTED}
    what = [VERSION, counted, identity.code_digests(counted), q_0, c_0, inputs]
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
    act = grammar.slug(run.act["formula"]) if "formula" in run.act else run.act["name"]
    return f"{act}-{digest[:8]}"


def _keep(cards: Mapping[str, Card], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in cards.items():
        if not (folder / f"{name}.json").exists():
            write_json(folder / f"{name}.json", content)


def print_card(content: Mapping[str, Any]) -> None:
    """Print what theory says of one network."""
    init = content["init"]
    params = [f"{k}={v}" for k, v in content["act"].items() if k not in HIDDEN]
    print(" ".join([content["act"]["name"], *params]))
    print(f"  sigma_w² = {init['sigma_w2']:.6g}, sigma_b² = {init['sigma_b2']:.6g}")
    print(f"  {content['verdict']}")
    for line in (*_fixed_point_lines(content), *_edge_lines(content), *_end_lines(content)):
        print(f"  {line}")
    _print_layers(content)
    print()


def _fixed_point_lines(content: Mapping[str, Any]) -> list[str]:
    lines = []
    if (points := content["fixed_points"]) is not None:
        shown = [
            f"{p['q']:.6g} ({'stable' if p['stable'] else 'unstable'}, Q' = {p['slope']:.4g})"
            for p in points
        ]
        lines.append(f"fixed points of q: {', '.join(shown) or 'none'}")
    if point := content["fixed_point"]:
        lines.append(
            f"q* = {point['q']:.6g}, chi_1 = {point['chi_1']:.6g}, c* = {point['c']:.4g}, "
            f"xi_q = {_scale(point['xi_q'])}, xi_c = {_scale(point['xi_c'])}"
        )
    if moments := content["moments"]:
        second = moments["second"] if moments["second"] > 1e-25 else 0.0
        curvature = moments["curvature"]
        curvature = curvature if abs(curvature) > 1e-12 * moments["derivative"] else 0.0
        lines.append(
            f"at q*: E[f²] = {second:.10g}, E[f'²] = {moments['derivative']:.10g}, "
            f"E[f f''] = {curvature:.10g}, {_error(moments['error'])}"
        )
    return lines


def _error(relative: float) -> str:
    return "exact to 12 digits" if relative < 1e-12 else f"relative error {relative:.1g}"


def _edge_lines(content: Mapping[str, Any]) -> list[str]:
    if not content["edge"]:
        return []
    here, start = content["edge"]["here"], content["edge"]["stable_from"]
    sigma_b2 = content["init"]["sigma_b2"]
    stable = [f"sigma_w² = {p['sigma_w2']:.6g} (q = {p['q']:.4g})" for p in here if p["stable"]]
    lines = [f"edge of chaos at sigma_b² = {sigma_b2:.4g}: {', '.join(stable) or 'none'}"]
    if start:
        lines.append(
            f"stable edge from sigma_w² = {start['sigma_w2']:.5f}, sigma_b² = "
            f"{start['sigma_b2']:.5f} (q = {start['q']:.4g}) on"
        )
    return lines


def _end_lines(content: Mapping[str, Any]) -> list[str]:
    lines = []
    if jacobian := content["jacobian"]:
        mean, variance = (
            "–" if jacobian[key] is None else f"{jacobian[key]:.4g}" for key in ("mean", "variance")
        )
        lines.append(
            f"Jacobian of {content['depth']} layers at q*: mean of J Jᵀ {mean}, "
            f"normalised variance {variance}"
        )
    if content["born_dead"] is not None:
        lines.append(f"born dead for one input: probability {content['born_dead']:.3g}")
    if dead := content["born_dead_everywhere"]:
        lines.append(f"born dead for all inputs: {dead['share']:.3g} ± {dead['error']:.1g}")
    return [*lines, *content["notes"]]


def _print_layers(content: Mapping[str, Any]) -> None:
    table = Table(box=None, pad_edge=False, header_style="", padding=(0, 2, 0, 0))
    columns = {
        "second": "E[z²]",
        "band": "± over networks",
        "correlation": "cosine of z",
        "act_cosine": "cosine of f(z)",
        "gradient": "|dL/dW|, last = 1",
    }
    for title in ("layer", *columns.values()):
        table.add_column(title, justify="right")
    last = content["depth"]
    for layer in sorted({n for n in (*SHOWN_LAYERS, last) if n <= last}):
        values = [content["layers"][name][layer - 1] for name in columns]
        table.add_row(str(layer), *map(_number, values))
    plain_console().print(table)


def _number(value: float | None) -> str:
    """Return four digits; cosines of rounding errors are 0."""
    return "–" if value is None else f"{value if abs(value) > 1e-12 else 0:.4g}"


def print_table(cards: Sequence[Card]) -> None:
    """Print a line for each card."""
    table = Table(box=None, pad_edge=False, header_style="")
    titles = ("sigma_w²", "sigma_b²", "q*", "Q'(q*)", "chi_1", "c*", "xi_q", "xi_c", "trains to")
    table.add_column("act")
    for title in titles:
        table.add_column(title, justify="right")
    table.add_column("phase")
    for content in cards:
        point, init = content["fixed_point"], content["init"]
        variances = (f"{init['sigma_w2']:.4g}", f"{init['sigma_b2']:.4g}")
        values = ["–"] * 7
        if point:
            numbers = (f"{point[key]:.4g}" for key in ("q", "slope", "chi_1", "c"))
            scales = (_scale(point[key]) for key in ("xi_q", "xi_c", "trainable_depth"))
            values = [*numbers, *scales]
        phase = content["verdict"].partition(":")[0]
        table.add_row(content["act"]["name"], *variances, *values, phase)
    plain_console().print(table)


def _scale(layers: float | None) -> str:
    return "∞" if layers is None else f"{layers:.4g}"


def _draw(cards: Mapping[str, Card], runs: Mapping[str, RunConfig], folder: Path) -> None:
    from actsweep.report.theory_figures import draw

    for name, content in cards.items():
        path = folder / f"{name}.png"
        if not path.exists():
            draw(content, runs[name], path)
        print(path)
