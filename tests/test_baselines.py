"""The baselines do the work they claim: a NumPy loop's losses, and every matrix product."""

import re

import numpy as np
import numpy_reference as ref
import pytest

from benchmarks import baselines

BATCH, N, EPOCHS = 32, 72, 10  # two whole batches; eight examples of each order are dropped
NET = {
    "hidden_1": ref.relu,
    "hidden_2": ref.relu,
    "hidden_3": ref.relu,
    "hidden_4": ref.relu,
    "head": None,
}


@pytest.fixture(scope="module")
def examples():
    """Random images whose brightness tells a little about their label."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, N).astype(np.int32)
    x = rng.integers(0, 156, (N, 28, 28, 1)) + 11 * y[:, None, None, None]
    return x.astype(np.uint8), y


def orders():
    """The same epochs' permutations at each call."""
    rng = np.random.default_rng(1)
    return iter([rng.permutation(N) for _ in range(EPOCHS)]).__next__


def replay(x, y):
    """Each epoch's mean loss, in float64."""
    params = {}
    for name, (kernel, bias) in zip(NET, baselines.draw(), strict=True):
        params |= {f"{name}/kernel": kernel.astype(float), f"{name}/bias": bias.astype(float)}
    rule = ref.Rule(lr=0.01, momentum=0.9)
    memory, order, means = rule.start(params), orders(), []
    for _ in range(EPOCHS):
        losses, drawn = [], order()
        for ids in (drawn[:BATCH], drawn[BATCH : 2 * BATCH]):
            batch = x[ids].astype(float) * 2 / 255 - 1
            value, grads = ref.loss_and_grads(NET, params, batch, y[ids])
            updates, memory = rule.update(params, grads, memory, 0, 1.0)
            params = {key: value + updates[key] for key, value in params.items()}
            losses.append(value)
        means.append(np.mean(losses))
    return means


@pytest.mark.parametrize("name", ["jitted_step_fed_by_numpy", "tutorial_loop", "pytorch"])
def test_losses_are_those_of_a_numpy_loop(name, examples):
    if name == "pytorch":
        pytest.importorskip("torch")
    expected = replay(*examples)
    assert expected[-1] < expected[0] - 0.01  # it learns, so a step left out would show
    make = getattr(baselines, name)
    epoch = make(baselines.Work(*examples, batch_size=BATCH, order=orders()))
    assert [epoch() for _ in range(EPOCHS)] == pytest.approx(expected, rel=1e-5)


def test_each_epoch_has_a_fresh_order_of_whole_batches():
    order = baselines.shuffled(N, seed=0)
    first, second = order(), order()
    assert sorted(first) == sorted(second) == list(range(N))
    assert not np.array_equal(first, second)
    assert [list(ids) for ids in baselines.batches(np.arange(7), 3)] == [[0, 1, 2], [3, 4, 5]]


def test_parameters_are_within_their_bounds_and_fill_them():
    for (kernel, bias), fan_in in zip(baselines.draw(), baselines.WIDTHS, strict=False):
        assert kernel.shape == (fan_in, len(bias))
        assert kernel.dtype == bias.dtype == np.float32
        for part in (kernel, bias):
            assert 0.5 < np.abs(part).max() * fan_in**0.5 <= 1 + 1e-6


# The floor


def noise(n, **options):
    """Images without meaning, and no labels, which a floor never asks for."""
    x = np.random.default_rng(0).integers(0, 256, (n, 28, 28, 1)).astype(np.uint8)
    return baselines.Work(x, np.zeros(n, np.int32), **options)


def executed(text):
    """How often a compiled program multiplies matrices: its dots, by the trips of their loops."""
    pattern = r"^(ENTRY )?%?([\w.\-]+) \([^\n]*\{\n(.*?)^\}"
    found = re.findall(pattern, text, re.MULTILINE | re.DOTALL)
    lines = {name: body.splitlines() for _, name, body in found}

    def count(name):
        total = 0
        for line in lines[name]:
            trips = re.search(r'known_trip_count":\{"n":"(\d+)"', line)
            called = re.findall(r"(?:body|calls|to_apply)=%?([\w.\-]+)", line)
            total += " dot(" in line
            total += (int(trips[1]) if trips else 1) * sum(count(other) for other in called)
        return total

    (entry,) = [name for is_entry, name, _ in found if is_entry]
    return count(entry)


@pytest.mark.parametrize("members", [None, 16])
def test_no_product_of_a_step_is_left_out(members):
    program, arguments = baselines.products_program(noise(1100), members)
    text = program.as_text()
    weights = 784 * 512 + 512 * 256 + 256 * 256 + 256 * 128 + 128 * 10
    flops = 2 * 256 * (3 * weights - 784 * 512)  # forward, by weights, by inputs but the pixels
    assert len(re.findall(r" dot\(", text)) == 14
    assert program.cost_analysis()["flops"] == pytest.approx(flops, rel=0.01)
    on_a_device = 1 if members is None else 2  # there are eight
    assert executed(text) == 14 * 4 * on_a_device  # 1100 images are four steps
    assert not re.search(r"all-reduce|all-gather|collective|transpose\(", text)
    assert np.isfinite(program(*arguments)).all()


def test_both_floors_do_the_same_products():
    work = noise(96, batch_size=32)
    alone = baselines.matrix_products(work)()
    assert baselines.matrix_products_sharded(work, 8)() == pytest.approx(8 * alone)
    with pytest.raises(ValueError, match="3 members don't divide among 8 devices"):
        baselines.matrix_products_sharded(work, 3)


# Timing


def test_callables_take_turns_in_both_directions():
    seen: list[str] = []
    seconds = baselines.rotate({name: lambda n=name: seen.append(n) for name in "abc"}, rounds=3)
    assert "".join(seen) == "abc" + "abc" + "cba" + "abc"
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3, "c": 3}
