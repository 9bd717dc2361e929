"""Baselines: an epoch of the default network as others would write it, and the floor below it.

The work is the same everywhere: an MLP 784-512-256-256-128-10 with ReLU on 28x28 images that lie in
memory as uint8, pixels mapped to [-1, 1], cross-entropy, SGD with momentum, batches of 256, the
last partial batch dropped, float32. No evaluation, no diagnostics. Each baseline returns a callable
that trains ONE more epoch in a fresh order, blocks until that is done and returns the epoch's mean
loss in nats, so that a harness can time it warm and in rotation with the others (`rotate`).

Whoever wants one JAX device a core must say so before the backend starts, as the product does:
`actsweep.runtime.devices.set_up_devices()`.
"""

import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int, UInt8

ROOT = Path(__file__).parents[1]
WIDTHS = (784, 512, 256, 256, 128, 10)
BATCH = 256
LEARNING_RATE, MOMENTUM = 0.01, 0.9

Images = UInt8[np.ndarray, "n 28 28 1"]
Labels = Int[np.ndarray, "n"]
Params = Sequence[tuple[Any, Any]]  # (kernel [in, out], bias [out]) of each layer
Order = Callable[[], Int[np.ndarray, "n"]]  # draws the next epoch's permutation of the records
Epoch = Callable[[], float]


def draw(widths: Sequence[int] = WIDTHS, seed: int = 0) -> Params:
    """Weights and biases U(-1/sqrt(fan_in), 1/sqrt(fan_in)), float32."""
    rng = np.random.default_rng(seed)

    def uniform(fan_in: int, *shape: int) -> np.ndarray:
        return rng.uniform(-(fan_in**-0.5), fan_in**-0.5, shape).astype(np.float32)

    return [(uniform(n, n, out), uniform(n, out)) for n, out in itertools.pairwise(widths)]


def shuffled(n: int, seed: int = 0) -> Order:
    """A fresh permutation of n records at each call."""
    return partial(np.random.default_rng(seed).permutation, n)


@dataclass(frozen=True)
class Work:
    """What a baseline trains on.

    Attributes:
        x: images.
        y: their labels.
        batch_size: examples of a step.
        params: what training starts from.
        order: draws each epoch's permutation; by default a fresh one.
    """

    x: Images
    y: Labels
    batch_size: int = BATCH
    params: Params = field(default_factory=draw)
    order: Order | None = None

    def orders(self) -> Order:
        """What draws the permutations of one training."""
        return self.order or shuffled(len(self.y))


def batches(order: np.ndarray, size: int) -> Iterator[Int[np.ndarray, "size"]]:
    """An epoch's order, cut into whole batches."""
    for first in range(0, len(order) - size + 1, size):
        yield order[first : first + size]


def cores() -> int:
    """CPU cores that this process may use."""
    has = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if has else os.cpu_count() or 1


# (a) The floor: matrix products


def matrix_products(work: Work) -> Epoch:
    """Only the matrix products of an epoch's steps, in one program on one JAX device.

    Each product has all of the client's threads. The callable returns a sum over one element of
    each product, which means nothing.
    """
    run, given = products_program(work)
    return lambda: float(run(*given))


def matrix_products_sharded(work: Work, members: int) -> Epoch:
    """`matrix_products` of several members, spread over all JAX devices, one after the other on
    each. The time is that of ALL members' epochs: divide it by `members`.

    Raises:
        ValueError: the members don't divide among the devices.
    """
    run, given = products_program(work, members)
    return lambda: float(np.sum(run(*given)))


def products_program(
    work: Work, members: int | None = None
) -> tuple[jax.stages.Compiled, tuple[Any, Array]]:
    """The compiled program behind `matrix_products` and its arguments, which are on the device.

    Apart so that it can be shown what was compiled: `as_text()` has every product, and
    `cost_analysis()["flops"]` counts a loop's body once, so it is that of one step of one member.
    """
    one = [jnp.array(kernel) for kernel, _ in work.params]
    x = pixels(jnp.array(work.x[: work.batch_size]))
    epoch = partial(_products_epoch, len(work.x) // work.batch_size)
    if members is None:
        return jax.jit(epoch).lower(one, x).compile(), (one, x)
    devices = jax.devices()
    if members % len(devices):
        raise ValueError(f"{members} members don't divide among {len(devices)} devices")
    mesh, member = Mesh(np.asarray(devices), ("member",)), P("member")
    stacked = jax.tree.map(lambda leaf: np.stack([leaf] * members), (one, x))
    arguments = jax.device_put(stacked, jax.NamedSharding(mesh, member))
    local = lambda *mine: lax.map(lambda one: epoch(*one), mine)  # noqa: E731
    spread = jax.shard_map(local, mesh=mesh, in_specs=member, out_specs=member, check_vma=False)
    return jax.jit(spread).lower(*arguments).compile(), arguments


def _products_epoch(steps: int, kernels: list[Array], x: Float[Array, "batch in"]) -> Array:
    def step(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        x, total = carry
        # The step's number in one pixel, written in place: no step's products equal another's, so
        # none can be hoisted, and no batch is copied, which would not be a product.
        x = x.at[0, 0].set(i.astype(x.dtype))
        return x, total + sum(product[0, 0] for product in _products(kernels, x))

    return lax.fori_loop(0, steps, step, (x, jnp.float32(0.0)))[1]


def _products(kernels: list[Array], x: Float[Array, "batch in"]) -> list[Array]:
    """A step's products: forward, then for each layer its weights' gradient and its input's."""

    def product(left: Array, right: Array, contract: tuple[int, int]) -> Array:
        dims = (((contract[0],), (contract[1],)), ((), ()))
        # Without the barrier XLA could compute the one element that is read.
        return lax.optimization_barrier(lax.dot_general(left, right, dims))

    acts = [x]
    for kernel in kernels:
        acts.append(product(acts[-1], kernel, (1, 0)))
    found, upstream = acts[1:], acts[-1]
    for layer in reversed(range(len(kernels))):
        found.append(product(acts[layer], upstream, (0, 0)))
        if layer > 0:  # nothing asks for the gradient by the pixels
            upstream = product(upstream, kernels[layer], (1, 1))
            found.append(upstream)
    return found


# (b), (c) JAX, fed by the host


class Trained(NamedTuple):
    """What training carries from step to step."""

    params: Any
    opt_state: optax.OptState


SGD = optax.sgd(LEARNING_RATE, momentum=MOMENTUM)


def pixels(x: Array) -> Float[Array, "batch features"]:
    """uint8 images, flattened and mapped to [-1, 1]."""
    return x.reshape(len(x), -1).astype(jnp.float32) / 127.5 - 1.0


def start(params: Params) -> Trained:
    """The state before the first step, in arrays of its own: they will be donated."""
    own = jax.tree.map(jnp.array, list(params))
    return Trained(own, SGD.init(own))


def update(state: Trained, x: Float[Array, "batch features"], y: Array) -> tuple:
    """One step of SGD. Returns the state, the batch's mean loss and its logits."""

    def mean_loss(params: Any) -> tuple[Array, Array]:
        h = x
        for layer, (kernel, bias) in enumerate(params):
            z = h @ kernel
            z = z + jnp.broadcast_to(bias, z.shape)
            h = jax.nn.relu(z) if layer < len(params) - 1 else z
        return optax.softmax_cross_entropy_with_integer_labels(h, y).mean(), h

    (loss, logits), grads = jax.value_and_grad(mean_loss, has_aux=True)(state.params)
    updates, opt_state = SGD.update(grads, state.opt_state)
    return Trained(optax.apply_updates(state.params, updates), opt_state), loss, logits


@partial(jax.jit, donate_argnums=(0, 1))
def numpy_fed_step(state: Trained, total: Array, x: Array, y: Array) -> tuple[Trained, Array]:
    """One step from stored images; adds the loss to `total`, which stays on the device."""
    state, loss, _ = update(state, pixels(x), y)
    return state, total + loss


def jitted_step_fed_by_numpy(work: Work) -> Epoch:
    """A jitted, donated step in a Python loop; NumPy gathers each batch from memory as uint8."""
    order, state = work.orders(), start(work.params)

    def epoch() -> float:
        nonlocal state
        total, steps = jnp.float32(0.0), 0
        for ids in batches(order(), work.batch_size):
            state, total = numpy_fed_step(state, total, work.x[ids], work.y[ids])
            steps += 1
        return float(jax.block_until_ready((state, total))[1]) / steps

    return epoch


class ImageItems:
    """A data set that is asked for one example at a time, as torchvision's are; without their
    detour through PIL."""

    def __init__(self, x: Images, y: Labels) -> None:
        self.x, self.y = x, y

    def __getitem__(self, index: int) -> tuple[Float[np.ndarray, "features"], int]:
        image = self.x[index].astype(np.float32)
        return ((image / 255.0 - 0.5) / 0.5).reshape(-1), int(self.y[index])


def load_items(
    items: ImageItems, order: np.ndarray, batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches fetched item by item and stacked, all in this process: what PyTorch's DataLoader does
    with `num_workers=0, drop_last=True` and a collate function that makes NumPy arrays."""
    for ids in batches(order, batch_size):
        images, labels = zip(*[items[i] for i in ids.tolist()], strict=True)
        yield np.stack(images), np.array(labels, np.int32)


@partial(jax.jit, donate_argnums=0)
def tutorial_step(state: Trained, x: Array, y: Array) -> tuple[Trained, Array, Array]:
    """One step from prepared pixels. Returns the state, the loss and the accuracy."""
    state, loss, logits = update(state, x, y)
    return state, loss, (jnp.argmax(logits, axis=-1) == y).mean(dtype=jnp.float32)


def tutorial_loop(work: Work) -> Epoch:
    """The UvA deep learning tutorials' pattern in JAX: a loader that collates single items feeds a
    jitted step; loss and accuracy are fetched once an epoch.

    Kinder than the tutorial in two ways: no PIL, and the state is donated.
    https://uvadlc-notebooks.readthedocs.io (JAX, tutorial 3)
    """
    order, state = work.orders(), start(work.params)
    items = ImageItems(work.x, work.y)

    def epoch() -> float:
        nonlocal state
        readings = []
        for x, y in load_items(items, order(), work.batch_size):
            state, loss, accuracy = tutorial_step(state, x, y)
            readings.append((loss, accuracy))
        readings = jax.device_get(jax.block_until_ready((state, readings))[1])
        return float(np.mean([loss for loss, _ in readings]))

    return epoch


# (d) PyTorch


def pytorch(work: Work) -> Epoch:
    """PyTorch on tensors in memory, prepared once; all cores; the fused SGD, its fastest.

    Raises:
        ImportError: PyTorch isn't installed. It is no dependency of this project.
    """
    import torch

    torch.set_num_threads(cores())
    x = torch.tensor(work.x.reshape(len(work.x), -1)).float().div_(127.5).sub_(1.0)
    y = torch.tensor(work.y).long()
    model = _torch_model(work.params)
    sgd = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, fused=True)
    order = work.orders()

    def epoch() -> float:
        total, steps = torch.zeros(()), 0
        for ids in batches(torch.tensor(order()), work.batch_size):
            sgd.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(x[ids]), y[ids])
            loss.backward()
            sgd.step()
            total += loss.detach()
            steps += 1
        return total.item() / steps

    return epoch


def _torch_model(params: Params) -> Any:
    from torch import nn, no_grad, tensor

    layers: list[nn.Module] = []
    for kernel, bias in params:
        linear = nn.Linear(*kernel.shape)
        with no_grad():
            linear.weight.copy_(tensor(kernel.T))
            linear.bias.copy_(tensor(bias))
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


# Timing


def rotate(callables: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each callable in each round, after one call to warm it up.

    They take turns, every other round in reverse, so that a drift of the machine hits all alike.
    """
    for call in callables.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in callables}
    for number in range(rounds):
        for name in list(callables)[:: -1 if number % 2 else 1]:
            before = time.perf_counter()
            callables[name]()
            seconds[name].append(time.perf_counter() - before)
    return seconds
