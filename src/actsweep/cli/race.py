"""`actsweep race`: the sweeper `race` of `actsweep train`, its settings as options."""


def race(
    *words: str,
    aim: str | None = None,
    seeds: int | None = None,
    budget: str | None = None,
    metric: str | None = None,
    margin: float | None = None,
) -> int:
    """Train as many seeds as it takes to decide which activation is better.

    Such as: actsweep race act=relu,gelu,swish data=digits. Every round adds seeds where pairs are
    open, until all are decided or a limit is reached; the verdicts hold whenever it ends.
    The same as actsweep train -m hydra/sweeper=race, see docs/race.md.

    Args:
        words: Overrides, as for actsweep train -m.
        aim: best, the default: who is worse than another one is out; or pairs: all are decided.
        seeds: The most seeds of a group; by default 40.
        budget: Of training, such as 2h; then no further round is begun.
        metric: Such as test/accuracy (the default).
        margin: Differences below it don't matter; by default 0.5 points.
    """
    from actsweep.cli.train import train

    settings = {"aim": aim, "seeds": seeds, "budget": budget, "metric": metric, "margin": margin}
    given = [f"hydra.sweeper.{key}={value}" for key, value in settings.items() if value is not None]
    return train(["-m", "hydra/sweeper=race", *given, *words])
