"""A race: which groups get further seeds, from how their pairs stand. No jax."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:  # numpy, which Hydra's sweepers, imported at every start, do without
    from actsweep.stats.paired import Pair

Group = TypeVar("Group", bound=Hashable)

BEST, PAIRS = "best", "pairs"
AIMS = (BEST, PAIRS)


@dataclass(frozen=True)
class Rules:
    """Rules of a race.

    Attributes:
        aim: `best`: a group that is worse than another one is out. `pairs`: every pair is decided.
        first: seeds of every group in the first round.
        batch: the most seeds that a group gets in each further round.
        seeds: the most seeds of a group in all.
    """

    aim: str = BEST
    first: int = 3
    batch: int = 4
    seeds: int = 40


def beaten(pairs: Mapping[tuple[Group, Group], "Pair"]) -> set[Group]:
    """Return the groups that are worse than some other one."""
    from actsweep.stats.paired import BETTER, WORSE

    return {
        a if pair.verdict == WORSE else b
        for (a, b), pair in pairs.items()
        if pair.verdict in (BETTER, WORSE)
    }


def open_pairs(pairs: Mapping[tuple[Group, Group], "Pair"], aim: str) -> list[tuple[Group, Group]]:
    """Return the pairs that the race still has to decide."""
    from actsweep.stats.paired import UNDECIDED

    out = beaten(pairs) if aim == BEST else set()
    return [
        (a, b) for (a, b), pair in pairs.items() if pair.verdict == UNDECIDED and not {a, b} & out
    ]


def seeds_next(
    pairs: Mapping[tuple[Group, Group], "Pair"], trained: Mapping[Group, int], rules: Rules
) -> dict[Group, int]:
    """Return how many seeds each group should have after the next round.

    All groups with an open pair get as many as would decide the one that is nearest to its verdict
    (with 80 % power, if its difference is what it seems), at most a batch; who has fewer seeds
    catches up, since pairs are compared over the seeds that both have.

    Stopping and dropping by the verdicts costs no certainty where these are of e-values: they hold
    at any moment that is chosen by what was seen (Ramdas et al. 2023, "Game-theoretic statistics
    and safe anytime-valid inference", section 2).

    Args:
        pairs: as compared over all runs so far.
        trained: the number of seeds of each group, including those that diverged.
        rules: of the race.

    Returns:
        Only groups that get further seeds; empty when the race has ended.
    """
    undecided = open_pairs(pairs, rules.aim)
    running = {group: trained[group] for pair in undecided for group in pair}
    if not running:
        return {}
    needed = [more for pair in undecided if (more := pairs[pair].more) is not None]
    step = max(1, min([rules.batch, *needed]))
    target = min(rules.seeds, max(running.values()) + step)
    return {group: target for group, seeds in running.items() if seeds < target}
