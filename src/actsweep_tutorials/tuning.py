"""Groups of runs, each trained with the learning rate that validation chooses for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from actsweep.report.design import Entry, gather, lay_out
from actsweep.report.tune import tune
from actsweep.utils.errors import UserError
from actsweep_tutorials.base import Params
from actsweep_tutorials.training import seed_override, train_sweep

TUNING_SEED = 100  # the first seed of the tuning; those of the comparison begin at 0


@dataclass(frozen=True)
class Tuned:
    """Groups whose learning rates were tuned.

    Attributes:
        rates: the learning rate of each value of the factor.
        tuning: the runs that chose it.
        entries: runs of other seeds with it.
        notes: on the choice.
    """

    rates: Mapping[str, float]
    tuning: Sequence[Entry]
    entries: Sequence[Entry]
    notes: Sequence[str]


def train_tuned(
    words: Sequence[str],
    factor: tuple[str, str],
    values: Sequence[str],
    seeds: tuple[int, int],
    params: Params,
) -> Tuned:
    """Tune the learning rate of each value of a factor, then train it with seeds of their own.

    Args:
        words: the overrides of all runs.
        factor: what tells groups apart, as it is typed, and as `actsweep compare` names it.
        values: its values.
        seeds: how many of the comparison, and how many of the tuning.
        params: the experiment's parameters, with the rates as `lr`; of one, nothing is tuned.

    Raises:
        TrainingStopped: as `train_sweep`.
        UserError: every run of a group has failed in the tuning; or as `train_sweep`.
    """
    typed, path = factor
    tuning: list[Entry] = []
    notes: Sequence[str] = ()
    rates = dict.fromkeys(values, params["lr"][0])
    if len(params["lr"]) > 1:
        tuning_words = (
            f"{typed}={','.join(values)}",
            f"optim.lr={','.join(map(str, params['lr']))}",
            seed_override(seeds[1], TUNING_SEED),
        )
        tuning = gather([train_sweep((*words, *tuning_words), params)])
        _, chosen, notes = tune(lay_out(tuning, [path]))
        known = {first_word(label): rate["lr"] for label, rate in chosen.items()}
        if failed := [value for value in values if value not in known]:
            raise UserError(f"{', '.join(failed)}: every run of the tuning has failed, see above")
        rates = {value: known[value] for value in values}
    final_words = (
        f"{typed}={','.join(values)}",
        f"optim.lr={','.join(map(str, rates.values()))}",
        *([f"sweep.pairs=['{typed}',optim.lr]"] if len(values) > 1 else []),
        seed_override(seeds[0]),
    )
    entries = gather([train_sweep((*words, *final_words), params)])
    return Tuned(rates, tuning, entries, notes)


def first_word(label: Sequence[str]) -> str:
    """Return a group's value of the factor, without the parameters that stand behind it."""
    return label[0].partition(" ")[0]
