"""Measures what packs buy, section by section: python -m benchmarks --out FILE.json [--only NAME]

Figures go to stderr as they come, all that was measured to stdout, as JSON, at the end. With --toy
everything is so small that it takes seconds, and says only that it runs.
"""

import argparse
import json
import sys
from pathlib import Path

import jax

from actsweep.runtime.devices import set_up_devices
from benchmarks import (
    architectures,
    cluster,
    equivalence,
    faults,
    fights,
    gpu,
    harness,
    kernels,
    looks,
    races,
    report,
    shell,
    speed,
    verdicts,
)
from benchmarks.harness import Result, Section

SECTIONS: dict[str, Section] = {
    "training": Section(speed.training, rounds=5),
    "diagnostics": Section(speed.diagnostics, rounds=7),
    "histograms": Section(kernels.histograms, rounds=15),
    "repacking": Section(speed.repacking, rounds=5),
    "packs": Section(speed.packs, rounds=3),
    "start": Section(shell.start, rounds=2),
    "sweep": Section(shell.sweep, rounds=1),
    "memory": Section(shell.memory, rounds=1),
    "many": Section(shell.many, rounds=1),
    "report": Section(report.report, rounds=3),
    "models": Section(architectures.architectures, rounds=5, apart=True),
    "gpu": Section(gpu.gpu, rounds=3, apart=True),
    "equivalence": Section(equivalence.equivalence, rounds=1, apart=True),
    "cluster": Section(cluster.cluster, rounds=3, apart=True),
    "faults": Section(faults.faults, rounds=7, apart=True),
    "verdicts": Section(verdicts.verdicts, rounds=1, apart=True),
    "races": Section(races.races, rounds=1, apart=True),
    "fights": Section(fights.fights, rounds=1, apart=True),
    "looks": Section(looks.every_look, rounds=1, apart=True),
}


def main(words: list[str] | None = None) -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--out", type=Path, help="JSON; other sections that it holds stay")
    parser.add_argument("--only", action="append", choices=SECTIONS, help="may be repeated")
    parser.add_argument("--rounds", type=int, help="instead of each section's own number")
    parser.add_argument("--toy", action="store_true", help="seconds each; the figures mean nothing")
    options = parser.parse_args(words)
    set_up_devices()
    jax.config.update("jax_default_matmul_precision", "highest")  # baselines, as what is timed
    measured: Result = {}
    for name in options.only or [name for name, one in SECTIONS.items() if not one.apart]:
        for result in harness.measure(SECTIONS[name], options.rounds, options.toy):
            measured[name] = result
            if options.out:
                save(options.out, name, result)
        for row in measured[name]["figures"]:
            print(harness.line(name, row), file=sys.stderr, flush=True)
    print(json.dumps(measured, indent=1, allow_nan=False))


def save(file: Path, name: str, result: Result) -> None:
    """Put a section's result in place of the one that a file holds, or at its end."""
    known: Result = json.loads(file.read_text()) if file.exists() else {}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(known | {name: result}, indent=1, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
