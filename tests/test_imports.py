"""Imports go one way, and what runs on a login node never imports JAX."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src"

# Each layer may import those before it, and its own.
PARTS = (
    "activations inits models optim data callbacks writers checkpoint claims stats table figures"
)
LAYERS = (
    ("errors",),
    ("explain", "schema", "target"),
    ("checks", "command"),
    ("config",),
    ("members", "compose"),
    ("ledger", "provenance", "signals"),
    ("slurm", "attended"),
    ("together",),
    tuple(PARTS.split()),
    ("network",),
    ("counts",),
    ("step",),
    ("population",),
    ("roster", "rowlog"),
    ("loop",),
    ("fit", "load", "resume"),
    ("turn",),
    ("run",),
    ("sweeps",),
    ("seen",),
    ("factors",),
    ("report",),
    ("app",),
    ("cluster",),
    ("hydra_plugins.actsweep_pack.slurm_launcher",),
    ("hydra_plugins.actsweep_pack.launch",),
    ("hydra_plugins.actsweep_pack.sweeper",),
    ("manage",),
    ("overview", "tidy"),
    ("experiments",),
)
NO_JAX = (
    *("actsweep", "actsweep.app", "actsweep.checks", "actsweep.command", "actsweep.config"),
    *("actsweep.claims", "actsweep.compose"),
    *("actsweep.data", "actsweep.errors", "actsweep.explain", "actsweep.ledger"),
    *(
        "actsweep.members",
        "actsweep.provenance",
        "actsweep.schema",
        "actsweep.signals",
        "actsweep.stats",
    ),
    *("actsweep.manage", "actsweep.overview", "actsweep.tidy", "actsweep.seen"),
    *("actsweep.report.compare", "actsweep.report.words"),
    *("actsweep.sweeps", "actsweep.table", "actsweep.slurm", "actsweep.cluster"),
    *("actsweep.writers", "actsweep.__main__", "hydra_plugins.actsweep_pack.launch"),
    "hydra_plugins.actsweep_pack.sweeper",
)


def module_of(path: Path) -> str:
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_of(path): path for path in SRC.rglob("*.py")}


def imports(module: str) -> set[str]:
    """Modules that a file imports when it is imported itself; not those inside functions."""
    found: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(FILES[module].read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in FILES else str(node.module) for name in whole}
        waiting += ast.iter_child_nodes(node)
    return found


def layer(module: str) -> int | None:
    """Which layer a module of ours belongs to; None for other people's."""
    name = module.removeprefix("actsweep.")
    for place, names in enumerate(LAYERS):
        if any(name == own or name.startswith(f"{own}.") for own in names):
            return place
    return None


@pytest.mark.parametrize("module", sorted(FILES))
def test_imports_go_one_way(module: str) -> None:
    own = layer(module)
    if own is None:
        pytest.skip("belongs to no layer")
    wrong = [m for m in imports(module) if m in FILES and (layer(m) or 0) > own]
    assert not wrong


def test_every_module_of_training_has_its_layer() -> None:
    reached, waiting = set(), ["actsweep.app", "actsweep.run", *NO_JAX]
    while waiting:
        module = waiting.pop()
        if module in FILES and module not in reached:
            reached.add(module)
            waiting += imports(module)
    outside = {m for m in reached if layer(m) is None}
    assert outside <= {"actsweep", "actsweep.__main__", "hydra_plugins.actsweep_pack"}


@pytest.mark.parametrize("part", ["writers", "checkpoint", "ledger"])
def test_writers_know_nothing_of_the_step(part: str) -> None:
    above = {"step", "population", "loop", "run"}
    for module in FILES:
        if module == f"actsweep.{part}" or module.startswith(f"actsweep.{part}."):
            assert not imports(module) & {f"actsweep.{name}" for name in above}, module


def test_login_nodes_never_import_jax() -> None:
    for module in NO_JAX:
        direct = {name.partition(".")[0] for name in imports(module)}
        assert not direct & {"jax", "jaxlib", "flax", "optax"}, module
    code = (
        "import importlib, sys\n"
        f"for name in {NO_JAX}:\n"
        "    importlib.import_module(name)\n"
        "    assert 'jax' not in sys.modules, name\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
