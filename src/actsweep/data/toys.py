"""Small sets that need no files: two classification problems in the plane, one regression."""

import random
from collections.abc import Callable

import numpy as np

from actsweep.config.schema import DataConfig
from actsweep.data.dataset import Dataset

VAL, TEST, NOISE = 1, 2, 3

Pair = tuple[np.ndarray, np.ndarray]


def circle(cfg: DataConfig) -> Dataset:
    """Draw points uniform on (-2, 2)^2, label 1 where x^2 + y^2 < 1.5.

    The training points come from Python's `random.Random(split_seed)`, x before y, point after
    point: `data.split_seed=42 data.examples=200` are the points of the from-scratch tutorial.
    """
    return _plane(cfg, 2.0, lambda x, y: x**2 + y**2 < 1.5, ("outside", "inside"))


def xor(cfg: DataConfig) -> Dataset:
    """Draw points uniform on (-1, 1)^2, label 1 where the signs differ; drawn as `circle` is."""
    return _plane(cfg, 1.0, lambda x, y: x * y < 0, ("same sign", "opposite signs"))


def truth_table(cfg: DataConfig) -> Dataset:
    """Return the four points of the exclusive or, (0, 0), (0, 1), (1, 0) and (1, 1).

    All three splits are these: who has learned the table knows all that there is. They are repeated
    in turn until there are `examples` of them to train on, so that batches may be larger than four.
    """
    x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    y = np.array([0, 1, 1, 0], np.int32)
    times = max(1, -(-cfg.examples // 4))
    train = (np.tile(x, (times, 1)), np.tile(y, times))
    return Dataset(cfg.name, *train, x, y, x, y, classes=2, labels=("equal", "different"))


def quadratic(cfg: DataConfig) -> Dataset:
    """Draw a regression: y = x^2 + noise * randn for x on [-2, 2].

    The training x are `linspace(-2, 2, examples)`, their noise is numpy's legacy
    `RandomState(split_seed).randn(examples)`: `data.examples=200 data.split_seed=0 data.noise=0.25`
    is the set of the tutorial. Validation and test x are uniform draws, with noise of their own.
    """
    x = np.linspace(-2, 2, cfg.examples)
    y = x**2 + cfg.noise * np.random.RandomState(cfg.split_seed).randn(cfg.examples)

    def draw(stream: int) -> Pair:
        rng = _generator(cfg, stream)
        x = rng.uniform(-2, 2, cfg.val_size)
        return _column(x), _column(x**2 + cfg.noise * rng.standard_normal(cfg.val_size))

    return Dataset(cfg.name, _column(x), _column(y), *draw(VAL), *draw(TEST), classes=None)


def _plane(
    cfg: DataConfig,
    half: float,
    rule: Callable[[np.ndarray, np.ndarray], np.ndarray],
    labels: tuple[str, str],
) -> Dataset:
    """Draw `examples` training points, `val_size` for validation and as many for the test.

    `data.noise` moves the points by Gaussian noise after they have got their labels.
    """

    def finish(points: np.ndarray, rng: np.random.Generator) -> Pair:
        y = rule(points[:, 0], points[:, 1]).astype(np.int32)
        moved = points + cfg.noise * rng.standard_normal(points.shape)
        return moved.astype(np.float32), y

    def draw(stream: int) -> Pair:
        rng = _generator(cfg, stream)
        return finish(rng.uniform(-half, half, (cfg.val_size, 2)), rng)

    legacy = random.Random(cfg.split_seed)
    points = np.array([legacy.uniform(-half, half) for _ in range(2 * cfg.examples)])
    train = finish(points.reshape(-1, 2), _generator(cfg, NOISE))
    return Dataset(cfg.name, *train, *draw(VAL), *draw(TEST), classes=2, labels=labels)


def _generator(cfg: DataConfig, stream: int) -> np.random.Generator:
    seeds = np.random.SeedSequence([cfg.split_seed, 0, stream])
    return np.random.Generator(np.random.Philox(seeds))


def _column(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32)[:, None]
