"""Pure functions of ONE member: init, train_chunk, evaluate, probes, count. No member axis.

Static values come by closure from a config whose varying fields are None; a member's hparams come
by argument. `population` batches these functions over members.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Bool, PRNGKeyArray

from actsweep.callbacks.base import Callback, ProbeView, Readings, StepView
from actsweep.config.schema import RunConfig
from actsweep.nn import optimizers
from actsweep.nn.models.layers import named_key
from actsweep.nn.models.recording import Intermediates
from actsweep.nn.network import Held, HParams, Network, Params, Task, split
from actsweep.stats.scores import SCORES
from actsweep.train import scoring
from actsweep.train.augment import AUGMENTS
from actsweep.train.gradient import gradient_of
from actsweep.train.statistics import add_readings, captured, concluding, counting
from actsweep.train.types import ACTIVE, DIVERGED, STOPPED, Examples, Span, State, Tally


class Functions(NamedTuple):
    """Functions of one member, as `population` batches them; and whether its network convolves."""

    init: Callable[..., State]
    train_chunk: Callable[..., tuple[State, Readings]]
    evaluate: Callable[..., tuple[State, Readings]]
    score: Callable[..., Readings]
    probe_of: Callable[[tuple[str, ...]], Callable[..., Readings]]
    counts: Callable[..., tuple[Mapping[str, Array], Bool[Array, ""]]]
    no_counts: Callable[..., Mapping[str, Array]]
    conclude: Callable[..., Readings]
    convolves: bool


def build(
    config: RunConfig,
    task: Task,
    hparams: HParams,
    callbacks: Mapping[str, Callback],
    batch_axis: str | None = None,
) -> Functions:
    """Return the functions of one member.

    Args:
        config: `identity.static_part` of the pack's config.
        task: shapes and length.
        hparams: one member's hparams, for their shapes and names only.
        callbacks: the observers; they never change what is trained.
        batch_axis: name of the mesh axis that divides this member's batch, if there is one.
    """
    net = Network(config, task, hparams)
    on_step = {name: c.on_step for name, c in callbacks.items() if c.on_step}
    score = jax.jit(scoring.build(net))  # traced once for each set
    counts, no_counts = counting(net, callbacks)
    return Functions(
        init=_init(net, on_step),
        train_chunk=_train_chunk(net, on_step, batch_axis),
        evaluate=_evaluate(net, score),
        score=_when_real(score),
        probe_of=_probe_of(net, callbacks),
        counts=counts,
        no_counts=no_counts,
        conclude=concluding(callbacks),
        convolves=net.convolves,
    )


def _init(net: Network, on_step: Mapping[str, Callable]) -> Callable[..., State]:
    measure = _measure(net, on_step)

    def init(hparams: HParams, real: Bool[Array, ""], x: Array | None = None) -> State:
        """Draw a member and return its state; one that only pads the pack is stopped at once.

        Args:
            x: examples by which the kernels are scaled, with `init=lsuv`.
        """
        params, (act_hparams, model_state) = split(net.draw(hparams))
        if x is not None:
            held = (act_hparams, model_state)
            params = net.unit_variance(params, held, x, hparams["init.scale"])
        rule = optimizers.transform(net.config.optim, hparams, jnp.float32(1.0))
        drawn = State(
            params=params,
            act_hparams=act_hparams,
            model_state=model_state,
            opt_state=rule.init(params),
            best=params,
            best_model_state=model_state,
            best_score=jnp.float32(-jnp.inf),
            best_epoch=jnp.int32(0),
            bad_epochs=jnp.int32(0),
            outcome=jnp.where(real, ACTIVE, STOPPED).astype(jnp.int32),
            tally=Tally({}, {}),
        )
        number = jnp.float32(0.0)
        return drawn._replace(tally=_empty(jax.eval_shape(measure, params, params, number, number)))

    return init


def _all_finite(params: Params) -> Bool[Array, ""]:
    """Return whether every parameter is finite; a gradient that isn't spoils them at once."""
    finite = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(params)]
    return jnp.all(jnp.stack(finite))


def _empty(names: Iterable[str]) -> Tally:
    return Tally(
        {key: jnp.float32(0.0) for key in names}, {key: jnp.float32(-jnp.inf) for key in names}
    )


def _measure(net: Network, on_step: Mapping[str, Callable]) -> Callable[..., dict[str, Array]]:
    def measure(params: Params, grads: Params, loss: Array, right: Array) -> dict[str, Array]:
        """Return the readings of one step."""
        view = StepView(net.kernels(params), net.kernels(grads))
        readings = net.scores("train", loss, right)
        for name, measure in on_step.items():
            add_readings(readings, measure(view), name)
        return readings

    return measure


def _one_step(net: Network, on_step: Mapping[str, Callable], batch_axis: str | None) -> Callable:
    optimiser, total = net.config.optim, net.task.total_steps
    augment, measure = AUGMENTS.get(net.config.data.augment), _measure(net, on_step)

    def stream(hparams: HParams, name: str, step: Array) -> PRNGKeyArray:
        key = jax.random.fold_in(named_key(hparams["seeds.order"], name), step)
        return key if batch_axis is None else jax.random.fold_in(key, lax.axis_index(batch_axis))

    def mean_loss(
        params: Params, held: Held, x: Array, y: Array, key: PRNGKeyArray
    ) -> tuple[Array, tuple[Array, Held]]:
        logits, held = net.train_forward(params, held, x, key)
        loss, right = net.losses(logits, y, training=True)
        return jnp.mean(loss), (jnp.mean(right, dtype=jnp.float32), held)

    gradient = gradient_of(mean_loss, net.config.trainer.accumulate)

    def one_step(
        state: State, hparams: HParams, x: Array, y: Array, step: Array
    ) -> tuple[State, dict]:
        x = x if augment is None else augment(x, stream(hparams, "augment", step))
        key = stream(hparams, "train", step)
        (loss, (right, held)), grads = gradient(state.params, state.held, x, y, key)
        model_state = held[1]
        if batch_axis is not None:
            measured = (loss, right, grads, model_state)
            loss, right, grads, model_state = lax.pmean(measured, batch_axis)
        rule = optimizers.transform(
            optimiser, hparams, optimizers.schedule_factor(optimiser, step, total)
        )
        updates, opt_state = rule.update(grads, state.opt_state, state.params)
        readings = measure(state.params, grads, loss, right)
        params = optax.apply_updates(state.params, updates)
        new = state._replace(params=params, opt_state=opt_state, model_state=model_state)
        return new, readings

    return one_step


def _train_chunk(net: Network, on_step: Mapping[str, Callable], batch_axis: str | None) -> Callable:
    one_step = _one_step(net, on_step, batch_axis)

    @when_active
    def train_chunk(
        state: State, hparams: HParams, batches: Any, train: Examples | None, span: Span
    ) -> tuple[State, Readings]:
        """Take the steps of a span and return the new state and readings.

        A member whose loss or parameters aren't finite at the end of a row has diverged. One that
        isn't active any more stays as it is. How the steps of a row are divided into spans makes no
        difference.

        Args:
            batches: int32[K, B] ids into `train`, or `Examples` with x [K, B, ...], y [K, B]; the
                first `span.n` count.

        Returns:
            The state, and each reading's mean over the row's steps so far; for `family/layer` also
            its maximum, as `family_max/layer`.
        """

        def advance(i: Array, carry: tuple[State, Tally]) -> tuple[State, Tally]:
            state, tally = carry
            batch = jax.tree.map(lambda leaf: leaf[i], batches)
            x, y = batch if train is None else (train.x[batch], train.y[batch])
            state, now = one_step(state, hparams, x, y, span.first + i)
            return state, Tally(
                jax.tree.map(jnp.add, tally.total, now), jax.tree.map(jnp.maximum, tally.most, now)
            )

        known, empty = state.tally, _empty(state.tally.total)
        starts_row = span.first == span.begin
        tally = jax.tree.map(lambda old, zero: jnp.where(starts_row, zero, old), known, empty)
        state, tally = lax.fori_loop(0, span.n, advance, (state, tally))
        steps = span.first + span.n - span.begin
        means = jax.tree.map(lambda leaf: leaf / steps.astype(jnp.float32), tally.total)
        sound = jnp.isfinite(tally.total["train/loss"]) & _all_finite(state.params)
        broken = (span.begin + steps == span.end) & ~sound
        outcome = jnp.where(broken, DIVERGED, state.outcome)
        readings = means | {
            key.replace("/", "_max/", 1): value
            for key, value in tally.most.items()
            if not key.startswith("train/")
        }
        readings |= net.act_params(state.params)
        return state._replace(outcome=outcome, tally=tally), readings

    return train_chunk


def _when_real(score: Callable[..., Readings]) -> Callable[..., Readings]:
    def real_score(params: Params, held: Held, real: Array, examples: Examples) -> Readings:
        """Return what `score` does; NaN for a row that holds no member."""

        def nothing(*arguments: Any) -> Readings:
            shapes = jax.eval_shape(score, *arguments)
            return {key: jnp.full(leaf.shape, jnp.nan, leaf.dtype) for key, leaf in shapes.items()}

        return lax.cond(real, score, nothing, params, held, examples)

    return real_score


def _evaluate(net: Network, score: Callable) -> Callable:
    patience, least = net.config.trainer.patience, net.config.trainer.min_epochs
    own = net.task.scores.own
    sign = SCORES[own].sign

    @when_active
    def evaluate(state: State, val: Examples, epoch: Array) -> tuple[State, Readings]:
        """Validate after an epoch; return the new state and the readings.

        The best parameters are kept, and a member stops when patience has run out, but not before
        `min_epochs`. The score is the task's own (`stats.scores`), such as the accuracy, or minus
        the loss where less is better. Only a strictly better score replaces the best, so the
        earliest of equal scores is kept.
        """

        measured = score(state.params, state.held, val)
        goal = measured[own] if sign > 0 else -measured[own]
        finite = jnp.isfinite(measured["loss"])
        better = finite & (goal > state.best_score)
        keep = lambda new, old: jnp.where(better, new, old)  # noqa: E731
        bad_epochs = keep(jnp.int32(0), state.bad_epochs + 1)
        outcome = jnp.where(finite, state.outcome, DIVERGED)
        if patience is not None:
            spent = (bad_epochs >= patience) & (epoch >= least) & (outcome == ACTIVE)
            outcome = jnp.where(spent, STOPPED, outcome)
        new = state._replace(
            best=jax.tree.map(keep, state.params, state.best),
            best_model_state=jax.tree.map(keep, state.model_state, state.best_model_state),
            best_score=keep(goal, state.best_score),
            best_epoch=keep(epoch, state.best_epoch),
            bad_epochs=bad_epochs,
            outcome=outcome,
        )
        return new, {f"val/{name}": measured[name] for name in net.task.scores.names}

    return evaluate


def _probe_of(net: Network, callbacks: Mapping[str, Callback]) -> Callable:
    def view_of(state: State, hparams: HParams, batch: Examples, step: Array) -> ProbeView:
        n = len(batch.y)

        def mean_loss(params: Params, perturbation: dict) -> tuple[Array, tuple[Array, dict]]:
            intermediates = Intermediates(perturbation)
            logits = net.probe_forward(params, state.held, batch.x, intermediates)
            loss, _ = net.losses(logits, batch.y, training=True)
            return jnp.mean(loss), (logits, captured(intermediates))

        shapes = jax.eval_shape(lambda p: mean_loss(p, {})[1][1]["preact"], state.params)
        perturbation = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        (grads, by_preact), (logits, kept) = jax.grad(mean_loss, argnums=(0, 1), has_aux=True)(
            state.params, perturbation
        )
        optimiser = net.config.optim
        factor = optimizers.schedule_factor(optimiser, step, net.task.total_steps)
        rule = optimizers.transform(optimiser, hparams, factor)
        updates, _ = rule.update(grads, state.opt_state, state.params)
        return ProbeView(
            **kept,
            logits=logits,
            weights=net.kernels(state.params),
            grads=net.kernels(grads),
            preact_grads={k: v.astype(jnp.float32) * n for k, v in by_preact.items()},
            updates=net.kernels(updates),
        )

    def probe_of(due: tuple[str, ...]) -> Callable[..., Readings]:
        """Return the probe of the callbacks named in `due`."""

        @when_active
        def measure(
            state: State, hparams: HParams, batch: Examples, step: Array
        ) -> tuple[State, Readings]:
            view = view_of(state, hparams, batch, step)
            readings: dict[str, Any] = {}
            for name in due:
                probe = callbacks[name].probe
                if probe is not None:
                    add_readings(readings, probe(view), name)
            return state, readings

        def probe(state: State, hparams: HParams, batch: Examples, step: Array) -> Readings:
            """Return the readings on the probe batch."""
            return measure(state, hparams, batch, step)[1]

        return probe

    return probe_of


def when_active(run: Callable[..., tuple[State, Readings]]) -> Callable:
    """Return `run(state, *arguments)` for a member that may have stopped.

    Of one that isn't active the state stays as it is, and the readings are zero. Two are added:
    `active`, whether `run` was called, and `outcome`, the new state's.
    """
    run = jax.jit(run)  # traced once, for the shapes of its readings and to be called

    def skip(state: State, *arguments: Any) -> tuple[State, Readings]:
        shapes = jax.eval_shape(run, state, *arguments)[1]
        return state, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    def run_if_active(state: State, *arguments: Any) -> tuple[State, Readings]:
        active = state.outcome == ACTIVE
        state, readings = lax.cond(active, run, skip, state, *arguments)
        return state, dict(readings) | {"active": active, "outcome": state.outcome}

    return run_if_active
