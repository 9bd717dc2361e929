"""The twin of training and metrics: NumPy in float64, loops, written from the definitions.

Nothing here imports actsweep. A network is a dict from layer name to activation, input to output,
ending in `head`; its parameters are a dict of arrays `<layer>/kernel` and `<layer>/bias`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Act:
    """f(z) [.., units]; dL/dz from z and dL/da; |f'(z)| of each unit; the gate input."""

    f: Callable[[np.ndarray], np.ndarray]
    back: Callable[[np.ndarray, np.ndarray], np.ndarray]
    abs_derivative: Callable[[np.ndarray], np.ndarray]
    gate_input: Callable[[np.ndarray], np.ndarray] = lambda z: z


Net = Mapping[str, Act | None]


def elementwise(f: Callable, df: Callable) -> Act:
    return Act(f, lambda z, da: da * df(z), lambda z: np.abs(df(z)))


def _sigmoid(z: np.ndarray) -> np.ndarray:
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1 / (1 + e), e / (1 + e))


def _cdf(z: np.ndarray) -> np.ndarray:
    return 0.5 * np.vectorize(math.erfc)(-z / math.sqrt(2))


def _pdf(z: np.ndarray) -> np.ndarray:
    return np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)


identity = elementwise(lambda z: z, np.ones_like)
relu = elementwise(lambda z: np.maximum(z, 0), lambda z: np.where(z > 0, 1.0, 0.0))
tanh = elementwise(np.tanh, lambda z: 1 - np.tanh(z) ** 2)
sigmoid = elementwise(_sigmoid, lambda z: _sigmoid(z) * (1 - _sigmoid(z)))
gelu = elementwise(lambda z: z * _cdf(z), lambda z: _cdf(z) + z * _pdf(z))


def leaky_relu(slope: float = 0.01) -> Act:
    return elementwise(
        lambda z: np.where(z > 0, z, slope * z), lambda z: np.where(z > 0, 1.0, slope)
    )


def elu(alpha: float = 1.0) -> Act:
    exp = lambda z: np.exp(np.minimum(z, 0))  # noqa: E731
    return elementwise(
        lambda z: np.where(z > 0, z, alpha * (exp(z) - 1)),
        lambda z: np.where(z > 0, 1.0, alpha * exp(z)),
    )


def swish(beta: float = 1.0) -> Act:
    s = lambda z: _sigmoid(beta * z)  # noqa: E731
    return elementwise(lambda z: z * s(z), lambda z: s(z) + beta * z * s(z) * (1 - s(z)))


def _halves(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    units = z.shape[-1] // 2
    return z[..., :units], z[..., units:]


def _glu_derivatives(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    v, g = _halves(z)
    return _sigmoid(g), v * _sigmoid(g) * (1 - _sigmoid(g))


glu = Act(
    f=lambda z: _halves(z)[0] * _sigmoid(_halves(z)[1]),
    back=lambda z, da: np.concatenate([da * d for d in _glu_derivatives(z)], axis=-1),
    abs_derivative=lambda z: np.sqrt(sum(d**2 for d in _glu_derivatives(z))),
    gate_input=lambda z: _halves(z)[1],
)


def maxout(pieces: int) -> Act:
    """Piece p of unit j is input p * units + j; a tie doesn't happen with random weights."""

    def split(z: np.ndarray) -> np.ndarray:
        return np.stack(np.split(z, pieces, axis=-1))

    def back(z: np.ndarray, da: np.ndarray) -> np.ndarray:
        parts = split(z)
        return np.concatenate([da * (part == parts.max(axis=0)) for part in parts], axis=-1)

    largest = lambda z: split(z).max(axis=0)  # noqa: E731
    return Act(largest, back, lambda z: np.ones_like(largest(z)), largest)


def _softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _softmax_jacobian(z: np.ndarray) -> np.ndarray:
    a = _softmax(z)
    return np.stack([np.diag(row) - np.outer(row, row) for row in a])


softmax = Act(
    f=_softmax,
    back=lambda z, da: np.einsum("nj,nji->ni", da, _softmax_jacobian(z)),
    abs_derivative=lambda z: np.sqrt((_softmax_jacobian(z) ** 2).sum(axis=-1)),
)


# Networks


@dataclass
class Pass:
    """One forward pass: each layer's input, z and f(z), by name; the logits."""

    inputs: Arrays
    preact: Arrays
    act: Arrays
    logits: np.ndarray


def forward(net: Net, params: Arrays, x: np.ndarray) -> Pass:
    """Run dense layers; `conv_*` are 3x3 convolutions, each followed by a 2x2 average pool."""
    run, h = Pass({}, {}, {}, x), x
    for name, act in net.items():
        kernel, bias = params[f"{name}/kernel"], params[f"{name}/bias"]
        if not name.startswith("conv"):
            h = h.reshape(len(h), -1)
        run.inputs[name] = h
        z = (_convolve(h, kernel) if name.startswith("conv") else h @ kernel) + bias
        if act is None:
            run.logits = z
        else:
            run.preact[name], run.act[name] = z, act.f(z)
            h = _pool(run.act[name]) if name.startswith("conv") else run.act[name]
    return run


def backward(net: Net, params: Arrays, run: Pass, dlogits: np.ndarray) -> tuple[Arrays, Arrays]:
    """Return gradients of the sum over examples: by parameter, and by each example's z."""
    grads: Arrays = {}
    by_preact: Arrays = {}
    dh = dlogits
    for name, act in reversed(net.items()):
        if act is None:
            dz = dh
        elif name.startswith("conv"):
            da = _unpool(dh.reshape(_pool(run.act[name]).shape), run.act[name].shape)
            dz = by_preact[name] = act.back(run.preact[name], da)
        else:
            dz = by_preact[name] = act.back(run.preact[name], dh.reshape(run.act[name].shape))
        h, kernel = run.inputs[name], params[f"{name}/kernel"]
        if name.startswith("conv"):
            dh, grads[f"{name}/kernel"] = _unconvolve(h, kernel, dz)
        else:
            dh, grads[f"{name}/kernel"] = dz @ kernel.T, h.T @ dz
        grads[f"{name}/bias"] = dz.reshape(-1, dz.shape[-1]).sum(axis=0)
    return grads, by_preact


def _windows(padded: np.ndarray, height: int, width: int) -> list[tuple[int, int, np.ndarray]]:
    return [
        (i, j, padded[:, i : i + height, j : j + width]) for i in range(3) for j in range(3)
    ]  # fmt: skip


def _padded(x: np.ndarray) -> np.ndarray:
    return np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))


def _convolve(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    _, height, width, _ = x.shape
    return sum(part @ kernel[i, j] for i, j, part in _windows(_padded(x), height, width))


def _unconvolve(x: np.ndarray, kernel: np.ndarray, dz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    _, height, width, _ = x.shape
    dkernel, dpadded = np.zeros_like(kernel), np.zeros_like(_padded(x))
    for i, j, part in _windows(_padded(x), height, width):
        dkernel[i, j] = np.einsum("nhwi,nhwo->io", part, dz)
    for i, j, part in _windows(dpadded, height, width):
        part += dz @ kernel[i, j].T  # a view of dpadded
    return dpadded[:, 1:-1, 1:-1], dkernel


def _pool(a: np.ndarray) -> np.ndarray:
    n, height, width, units = a.shape
    return a.reshape(n, height // 2, 2, width // 2, 2, units).mean(axis=(2, 4))


def _unpool(d: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return (d.repeat(2, axis=1).repeat(2, axis=2) / 4).reshape(shape)


# Losses: each example's own, and its gradient with respect to the logits


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    p = _softmax(logits)
    rows = np.arange(len(labels))
    top = logits.max(axis=1)
    loss = top + np.log(np.exp(logits - top[:, None]).sum(axis=1)) - logits[rows, labels]
    dlogits = p.copy()
    dlogits[rows, labels] -= 1
    return loss, dlogits


def balanced_accuracy(logits: np.ndarray, y: np.ndarray) -> float:
    """The mean over the classes that occur of the share that is predicted correctly."""
    right = logits.argmax(axis=1) == y
    return float(np.mean([right[y == label].mean() for label in sorted(set(y.tolist()))]))


def squared_error(outputs: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return ((outputs - y) ** 2).mean(axis=1), 2 * (outputs - y) / y.shape[1]


def loss_and_grads(
    net: Net, params: Arrays, x: np.ndarray, y: np.ndarray, loss: Callable = cross_entropy
) -> tuple[float, Arrays]:
    """Return the mean loss over a batch and its gradient by parameter."""
    run = forward(net, params, x)
    losses, dlogits = loss(run.logits, y)
    grads, _ = backward(net, params, run, dlogits / len(x))
    return float(losses.mean()), grads


def accuracy(net: Net, params: Arrays, x: np.ndarray, y: np.ndarray) -> float:
    return float((forward(net, params, x).logits.argmax(axis=1) == y).mean())


# Optimisers


def schedule(name: str, step: int, total: int, warmup: float = 0.1) -> float:
    """Return the factor on the learning rate at step 0, 1, …"""
    if name == "constant":
        return 1.0
    warm = math.ceil(warmup * total) if name == "warmup_cosine" else 0
    if step < warm:
        return (step + 1) / warm
    return (1 + math.cos(math.pi * (step - warm) / (total - warm))) / 2


@dataclass
class Rule:
    """An optimiser's constants, and `update`: what it adds to each parameter at a step."""

    name: str = "sgd"
    lr: float = 0.01
    momentum: float = 0.0
    nesterov: bool = False
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    decay_bias: bool = False
    clip_norm: float | None = None

    def start(self, params: Arrays) -> dict[str, Arrays]:
        zeros = lambda: {k: np.zeros_like(v) for k, v in params.items()}  # noqa: E731
        return {"v": zeros()} if self.name == "sgd" else {"m": zeros(), "v": zeros()}

    def update(
        self, params: Arrays, grads: Arrays, memory: dict[str, Arrays], step: int, factor: float
    ) -> tuple[Arrays, dict[str, Arrays]]:
        """Return the updates and the new memory; `step` counts from 0."""
        if self.clip_norm is not None:
            norm = math.sqrt(sum((g**2).sum() for g in grads.values()))
            if norm > self.clip_norm:
                grads = {k: g * self.clip_norm / norm for k, g in grads.items()}
        if self.name != "adamw":
            grads = {k: g + self.decay(k) * params[k] for k, g in grads.items()}
        rule = self._sgd if self.name == "sgd" else self._adam
        return rule(params, grads, memory, step, self.lr * factor)

    def decay(self, key: str) -> float:
        """The rate at which a parameter is decayed: kernels are, biases on demand."""
        return self.weight_decay if self.decay_bias or not key.endswith("bias") else 0.0

    def _sgd(self, params: Arrays, grads: Arrays, memory: dict, step: int, lr: float) -> tuple:
        v = {k: self.momentum * memory["v"][k] + g for k, g in grads.items()}
        ahead = {k: g + self.momentum * v[k] for k, g in grads.items()} if self.nesterov else v
        return {k: -lr * direction for k, direction in ahead.items()}, {"v": v}

    def _adam(self, params: Arrays, grads: Arrays, memory: dict, step: int, lr: float) -> tuple:
        m = {k: self.b1 * memory["m"][k] + (1 - self.b1) * g for k, g in grads.items()}
        v = {k: self.b2 * memory["v"][k] + (1 - self.b2) * g**2 for k, g in grads.items()}
        updates = {}
        for k in grads:
            m_hat, v_hat = m[k] / (1 - self.b1 ** (step + 1)), v[k] / (1 - self.b2 ** (step + 1))
            direction = m_hat / (np.sqrt(v_hat) + self.eps)
            if self.name == "adamw":
                direction = direction + self.decay(k) * params[k]
            updates[k] = -lr * direction
        return updates, {"m": m, "v": v}


# Metrics


def units(abs_derivative: np.ndarray, act: np.ndarray, gate_input: np.ndarray) -> dict[str, float]:
    """Return what the `units` callback counts; all axes but the last are examples."""
    n = abs_derivative.shape[-1]
    slopes, act, gates = (a.reshape(-1, n) for a in (abs_derivative, act, gate_input))
    dead = silent = weak = saturated = 0
    for unit in range(n):
        active = sum(1 for g in gates[:, unit] if g > 0)
        dead += all(s < 1e-3 for s in slopes[:, unit])
        silent += all(a == 0 for a in act[:, unit])
        weak += 0 < active < 0.05 * len(gates)
        saturated += sum(1 for s in slopes[:, unit] if s < 0.01)
    return {
        "dead": dead,
        "dead_frac": dead / n,
        "silent_frac": silent / n,
        "weak_frac": weak / n,
        "saturated_frac": saturated / slopes.size,
    }


def cos_sim(act: np.ndarray) -> float:
    """Return the mean cosine over all pairs of different examples that aren't all zero."""
    rows = [row for row in act.reshape(len(act), -1) if np.any(row != 0)]
    lengths = [math.sqrt(float(row @ row)) for row in rows]
    pairs = [
        float(rows[i] @ rows[j]) / lengths[i] / lengths[j]
        for i in range(len(rows))
        for j in range(len(rows))
        if i != j
    ]
    return sum(pairs) / len(pairs) if pairs else math.nan


def histogram(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return counts below the first edge, in each bin [low, high), and from the last edge on."""
    values = np.ravel(values)
    inside = values[(values >= edges[0]) & (values < edges[-1])]
    under, over = np.sum(values < edges[0]), np.sum(values >= edges[-1])
    return np.array([under, *np.histogram(inside, edges)[0], over])


def rms(x: np.ndarray) -> float:
    return math.sqrt(float((x**2).mean()))


def l2(x: np.ndarray) -> float:
    return math.sqrt(float((x**2).sum()))


@dataclass(frozen=True)
class Probed:
    """All metrics of the probe batch: scalars by name, and the values behind each histogram."""

    scalars: dict[str, float]
    values: Arrays


def probe(
    net: Net,
    params: Arrays,
    x: np.ndarray,
    y: np.ndarray,
    update: Callable[[Arrays], Arrays],
    quantile_examples: int,
    histogram_examples: int,
) -> Probed:
    """Return every metric of every layer; `update` turns gradients into what the optimiser adds."""
    run = forward(net, params, x)
    _, dlogits = cross_entropy(run.logits, y)
    sums, by_preact = backward(net, params, run, dlogits)
    grads = {k: g / len(x) for k, g in sums.items()}
    updates = update(grads)
    scalars: dict[str, float] = {}
    values: Arrays = {}
    for name in net:
        kernel, grad = params[f"{name}/kernel"], grads[f"{name}/kernel"]
        scalars[f"grad_norm/{name}"] = l2(grad)
        scalars[f"grad_rms/{name}"] = l2(grad) / math.sqrt(grad.size)
        scalars[f"update_ratio/{name}"] = l2(updates[f"{name}/kernel"]) / l2(kernel)
        values[f"hist/grad/{name}"] = np.abs(grad)
        z = run.logits if name == "head" else run.preact[name]
        scalars[f"preact_mean/{name}"], scalars[f"preact_std/{name}"] = z.mean(), z.std()
    for name, a in run.act.items():
        scalars[f"preact_grad_rms/{name}"] = rms(by_preact[name])
        scalars[f"act_mean/{name}"], scalars[f"act_std/{name}"] = a.mean(), a.std()
        for key, share in (("q05", 0.05), ("q50", 0.5), ("q95", 0.95)):
            examples = a[:quantile_examples]
            scalars[f"act_{key}/{name}"] = np.quantile(examples, share, method="inverted_cdf")
        scalars[f"cos_sim/{name}"] = cos_sim(a)
        values[f"hist/preact/{name}"] = run.preact[name][:histogram_examples]
        values[f"hist/act/{name}"] = a[:histogram_examples]
    return Probed(scalars | unit_counts(net, run), values)


def unit_counts(net: Net, run: Pass) -> dict[str, float]:
    """Return dead, silent, weak and saturated units of every layer, and the dead of all layers."""
    readings: dict[str, float] = {}
    dead = total = 0.0
    for name, z in run.preact.items():
        act = net[name]
        assert act is not None
        counts = units(act.abs_derivative(z), run.act[name], act.gate_input(z))
        readings |= {f"{key}/{name}": value for key, value in counts.items()}
        dead, total = dead + counts["dead"], total + run.act[name].shape[-1]
    return readings | {"dead_frac/all": dead / total}
