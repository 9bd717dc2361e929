"""The checked config: bounds, names, contradictions, and what a run's config file gives back."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from actsweep import activations, callbacks, data
from actsweep.config import identity, overrides, resolve, validate, validate_data, validate_model
from actsweep.config.schema import DATASETS, INITS, MODELS, RunConfig
from actsweep.data.images import IMAGES
from actsweep.nn import models
from actsweep.utils.errors import UserError, bad_value, unknown_name

CONF = Path(__file__).parents[1] / "conf"


def make(**groups: Any) -> RunConfig:
    return resolve.resolve({"act": {"name": "relu"}, **groups})


BAD = [
    ({"act": {}}, "act=None: must be one activation's name; type for example act=relu"),
    ({"act": {"name": "a/b"}}, "act.name=a/b: must be letters"),
    ({"act": {"name": "elu", "alpha": 0}}, "act.alpha=0.0: must be above 0"),
    ({"act": {"name": "elu", "alpha": float("nan")}}, "act.alpha=nan: must be a finite number"),
    ({"act": {"name": "maxout", "pieces": 1}}, "act.pieces=1: must be an integer of at least 2"),
    ({"depth": {"layers": 0}}, "depth=0: must be from 1 to 256 hidden layers"),
    ({"depth": {"widths": []}}, "depth.widths=[]: must be from 1 to 256 widths"),
    ({"depth": {"widths": [3, 0]}}, "depth.width=0: must be from 1 to 65536 units"),
    ({"depth": {"widths": [3], "layers": 2}}, "depth.layers=2: must be 1, the length of"),
    ({"depth": {"widths": [3], "width": 5}}, "depth.width=5: must be absent beside"),
    ({"init": {"name": "he"}}, "init=he: no such name; did you mean init=he_normal?"),
    ({"init": {"gain": "big"}}, "init.gain=big: must be auto or a number above 0"),
    ({"init": {"gain": 0}}, "init.gain=0.0: must be a number above 0"),
    ({"init": {"scale": -1}}, "init.scale=-1.0: must be a number of at least 0"),
    ({"init": {"bias": float("nan")}}, "init.bias=nan: must be a finite number"),
    ({"optim": {"name": "sdg"}}, "optim=sdg: no such name; did you mean optim=sgd?"),
    ({"optim": {"lr": 0}}, "optim.lr=0.0: must be a number above 0"),
    ({"optim": {"lr": float("inf")}}, "optim.lr=inf: must be a number above 0"),
    ({"optim": {"lr": float("nan")}}, "optim.lr=nan: must be a number above 0"),
    ({"optim": {"lr": "fast"}}, "optim.lr=fast: must be a number; type for example optim.lr=0.1"),
    ({"optim": {"lrr": 1}}, "optim.lrr: no such key; did you mean optim.lr? Known here:"),
    ({"optim": {"momentum": 1}}, "optim.momentum=1.0: must be in [0, 1)"),
    ({"optim": {"clip_norm": 0}}, "optim.clip_norm=0.0: must be a number above 0"),
    ({"trainer": {"epochs": 0}}, "trainer.epochs=0: must be a number of at least 1"),
    ({"trainer": {"patience": 0}}, "trainer.patience=0: must be a number of at least 1"),
    ({"trainer": {"batch_size": 50_001}}, "trainer.batch_size=50001: must be at most 50000"),
    ({"trainer": {"precision": "float16"}}, "did you mean trainer.precision=bfloat16?"),
    ({"trainer": {"mesh": {"data": 3}}}, "trainer.mesh.data=3: must be a divisor of"),
    ({"data": {"name": "mnits"}}, "data=mnits: no such name; did you mean data=mnist?"),
    ({"data": {"name": "digits", "val_size": 1_500}}, "data.val_size=1500: must be below 1500"),
    ({"model": {"name": "cn"}}, "model=cn: no such name; did you mean model=cnn?"),
    ({"model": {"name": "cnn"}, "data": {"name": "circle"}}, "model=cnn: needs images"),
    ({"model": {"name": "cnn", "channels": [1] * 5}}, "model.channels=[1, 1, 1, 1, 1]: 5 pool"),
    ({"model": {"name": "cnn", "channels": [0]}}, "model.channels=[0]: must be at least 1 each"),
    ({"seed": -1}, "seed=-1: must be an integer from 0 to 4294967295; type for example seed=0"),
    ({"seed": 2**32}, "seed=4294967296: must be an integer from 0"),
    ({"seed": 0.5}, "seed=0.5: must be an integer; type for example seed=1"),
    ({"seed": None}, "seed=null: must have a value"),
    ({"rerun": "maybe"}, "rerun=maybe: no such name"),
    ({"logger": {"mode": "of"}}, "logger.mode=of: no such name; did you mean logger.mode=offline?"),
    ({"pack": {"size": 0}}, "pack.size=0: must be auto or an integer of at least 1"),
    ({"pack": {"size": True}}, "pack.size=True: must be auto or an integer"),
    (
        {"pack": {"batching": "pmap"}},
        "pack.batching=pmap: no such name; did you mean pack.batching=map?",
    ),
    ({"trainr": {}}, "trainr: no such key; did you mean trainer?"),
    ({"depth": {"widths": 5}}, "depth.widths: must be a list"),
    ({"trainer": 5}, "config: "),
]


@pytest.mark.parametrize(("groups", "line"), BAD, ids=[line[:30] for _, line in BAD])
def test_bad_values_say_where_what_and_what_to_type(groups: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as raised:
        make(**groups)
    assert line in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "groups",
    [
        {"seed": 0},
        {"seed": 2**32 - 1},
        {"trainer": {"patience": None}},
        {"trainer": {"batch_size": 50_000}},
        {"model": {"name": "cnn", "channels": [1, 2, 3, 4]}},
        {"model": {"name": "cnn"}, "data": {"name": "digits", "val_size": 300}},
        {"act": {"name": "maxout", "pieces": 3}},
        {"init": {"gain": "auto"}},
        {"data": {"_target_": "mine.data", "name": "own"}},
    ],
)
def test_the_limits_of_what_is_allowed(groups: dict[str, Any]) -> None:
    make(**groups)


@pytest.mark.parametrize(
    "groups",
    [
        {},
        {"depth": {"layers": 3, "width": 7}},
        {"depth": {"widths": [5, 4]}, "act": {"name": "elu", "alpha": 1}},
        {"act": {"name": "swish", "beta": 2, "learnable": True}, "init": {"gain": "auto"}},
        {"callbacks": {"health": {"absolute": True}, "units": {}, "gradients": None}},
        {"pack": {"members": ["a", "b"]}, "trainer": {"mesh": {"data": 2}}},
    ],
)
def test_a_saved_config_is_the_same_run(groups: dict[str, Any]) -> None:
    run = make(**groups)
    loaded = resolve.resolve(yaml.safe_load(yaml.safe_dump(resolve.to_dict(run))))
    assert loaded == run
    assert identity.run_id(loaded) == identity.run_id(run)
    assert resolve.resolve(resolve.to_dict(loaded)) == run


def test_whole_numbers_of_a_users_activation_stay_whole() -> None:
    act = {"name": "mine", "_target_": "mine.fn", "order": 2}
    assert type(make(act=act).act["order"]) is int
    assert type(make(act={"name": "elu", "alpha": 2}).act["alpha"]) is float


def test_names_are_those_of_the_code_and_of_conf() -> None:
    options = {p.name: {f.stem for f in p.glob("*.yaml")} for p in CONF.iterdir() if p.is_dir()}
    assert set(MODELS) == set(models.MODELS) == options["model"] - {"resnet56", "gpt_small"}
    assert set(INITS) == options["init"]
    assert set(DATASETS) == options["data"]
    assert set(activations.ACTIVATIONS) <= options["act"]
    files = (CONF / "callbacks").glob("*.yaml")
    listed = {key for file in files for key in yaml.safe_load(file.read_text())}
    assert listed <= set(callbacks.CALLBACKS)
    for group, example in overrides.GROUPS.items():
        assert example in options[group] or overrides.expand(f"{group}={example}")[1:]


@pytest.mark.parametrize("name", ["digits", "circle", "xor", "quadratic"])
def test_the_checks_know_the_true_size_of_the_data(name: str) -> None:
    run = make(data={"name": name, "val_size": 300, "examples": 400}, trainer={"batch_size": 9})
    examples = data.load(run.data)
    size = {"digits": validate_data.EXAMPLES["digits"] - 300}.get(name, 400)
    assert len(examples.train_x) == size
    side = validate_model.IMAGE_SIDE.get(name)
    assert examples.train_x.shape[1:3] == (side, side) if side else examples.train_x.ndim < 3
    assert set(validate_data.EXAMPLES) == set(validate_model.IMAGE_SIDE) == {*IMAGES, "digits"}


def test_act_parameters_are_those_that_the_option_lists() -> None:
    known = {"beta": 1.0, "learnable": False}
    validate.check_act_params(make(act={"name": "swish", "beta": 3}), known)
    for params, line in [
        (
            {"slop": 1},
            "act.slop=1.0: act=swish has no such parameter; leave it out. Known",
        ),
        ({"beta": "big"}, "act.beta=big: must be a number; type for example act.beta=1.0"),
        ({"beta": True}, "act.beta=True: must be a number"),
        ({"learnable": 1}, "act.learnable=1.0: must be true or false"),
    ]:
        with pytest.raises(UserError) as raised:
            validate.check_act_params(make(act={"name": "swish", **params}), known)
        assert line in str(raised.value)


@pytest.mark.parametrize(
    ("typed", "taken"),
    [
        ("depth=7", ["depth=uniform", "depth.layers=7"]),
        ("depth=-3", ["depth=uniform", "depth.layers=-3"]),
        ("depth=tutorial", ["depth=tutorial"]),
        ("depth=range(2,5)", ["depth=range(2,5)"]),
        ("act=relu,elu", ["act=relu,elu"]),
        ("callbacks=[light,mine]", ["callbacks=[light,mine]"]),
        ("optim.lr=0.1", ["optim.lr=0.1"]),
    ],
)
def test_overrides_as_hydra_takes_them_and_back(typed: str, taken: list[str]) -> None:
    assert overrides.expand(typed) == taken
    assert overrides.as_typed(["seed=1", *taken, "seed=2"]) == ["seed=1", typed, "seed=2"]


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("act=[relu]", "act=[relu]: must be one name; type for example act=relu"),
        ("act=[relu, elu]", "type for example -m act=relu,elu"),
        ("act=null", "act=null: must be one name; type for example act=relu"),
        ("callbacks=3", "callbacks=3: must be one name; type for example callbacks=default"),
        ("depth=4.5", "depth=4.5: must be a whole number of layers, or a name; type for example d"),
        ("depth=[8,4]", "type for example depth.widths=[8,4]"),
        ("experiment=null", "experiment=null: must be a name; leave it out for none"),
    ],
)
def test_groups_take_one_name(typed: str, line: str) -> None:
    with pytest.raises(UserError) as raised:
        overrides.expand(typed)
    assert line in str(raised.value)


def test_dash_m_may_stand_anywhere() -> None:
    given = ["act=relu,elu", "-m", "depth=2"]
    assert overrides.for_hydra(given) == ["-m", "act=relu,elu", "depth=uniform", "depth.layers=2"]


def test_one_value_of_some_activations_parameter_is_a_list_of_one() -> None:
    """Hydra would look for it in the config of the first activation."""
    words = ["act=relu,leaky_relu", "act.slope=0.1", "act.alpha=1,2", "optim.lr=0.1"]
    listed = ["act=relu,leaky_relu", "act.slope=choice(0.1)", "act.alpha=1,2", "optim.lr=0.1"]
    assert overrides.for_hydra(["-m", *words]) == ["-m", *listed]
    assert overrides.for_hydra(words) == words
    alone = ["-m", "act=leaky_relu", "act.slope=0.1"]
    assert overrides.for_hydra(alone) == alone


def test_options_may_stand_anywhere() -> None:
    """Hydra refuses an override on each side of an option."""
    given = [
        "act=relu",
        "--config-dir",
        "mine",
        "seed=1",
        "--info",
        "defaults",
        "-cd=x",
        "-m",
        "a=2",
    ]
    assert overrides.for_hydra(given) == [
        *("--config-dir", "mine", "--info", "defaults", "-cd=x", "-m"),
        *("act=relu", "seed=1", "a=2"),
    ]
    assert overrides.for_hydra(["--info", "seed=1"]) == ["--info", "seed=1"]


def test_errors_suggest_the_nearest_name() -> None:
    known = ("relu", "relu6", "elu")
    assert (
        str(bad_value("a.b", 3, "small", "a.b=1")) == "a.b=3: must be small; type for example a.b=1"
    )
    assert "did you mean act=relu?" in str(unknown_name("act", "rleu", known))
    assert "type for example act=elu. Known: elu, relu, relu6" in str(
        unknown_name("act", "", known)
    )
    assert "type for example act=x." in str(unknown_name("act", "zzz", known, "act=x"))
    assert "type for example another name." in str(unknown_name("act", "zzz", ()))


def test_a_dict_comes_back_as_the_run_that_it_was() -> None:
    run = resolve.resolve({"act": {"name": "elu", "alpha": 0.5}, "trainer": {"mesh": {"data": 2}}})
    assert resolve.from_dict(resolve.to_dict(run)) == run
