"""Imports go one way, and what runs on a login node never imports JAX."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src"

# A wing imports from those left of it, and from itself.
WINGS = (
    "utils stats < formulas < config activations < theory < callbacks runtime nn data < runs"
    " < loggers < train sweeps < report < launch < api < cli hydra_plugins < actsweep_tutorials"
)
RANKS = {wing: rank for rank, row in enumerate(WINGS.split(" < ")) for wing in row.split()}
JAX = {"jax", "jaxlib", "flax", "optax"}
# What lies in no wing, and which wings it may show.
DOORS = {
    "actsweep": {"runs", "api", "utils", "actsweep.train"},
    "actsweep.train": {"api"},  # the function of that name
    "actsweep.__main__": {"cli"},
    "actsweep.models": {"nn"},  # old addresses
    "actsweep.models.layers": {"nn"},
}
USES_JAX = {"activations", "callbacks", "nn", "train"}
USES_JAX_TOO = {
    *("actsweep.runs.checkpoint", "actsweep.runs.load", "actsweep.runtime.devices"),
    *("actsweep.runtime.distributed",),  # in its functions
}


def module_of(path: Path) -> str:
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_of(path): path for path in SRC.rglob("*.py")}


def wing_of(module: str) -> str:
    """The wing that a module of ours lives in; the package itself for its doors."""
    first, _, rest = module.partition(".")
    if first != "actsweep" or module in DOORS:
        return first if module not in DOORS else module
    return rest.partition(".")[0]


def imports(module: str, *, inside_functions: bool = True) -> set[str]:
    """All that a file imports, but for type checking; our own modules by their full names."""
    names: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(FILES[module].read_text())]
    while waiting:
        node = waiting.pop()
        inner = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if inner and not inside_functions:
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            names |= {name if name in FILES else str(node.module) for name in whole}
        waiting += ast.iter_child_nodes(node)
    return names - {module}


def test_every_module_lives_in_a_wing() -> None:
    assert {wing_of(module) for module in FILES} == {*RANKS, *DOORS}


@pytest.mark.parametrize("module", sorted(FILES))
def test_imports_go_one_way(module: str) -> None:
    here = wing_of(module)
    for other in imports(module) & FILES.keys():
        there = wing_of(other)
        if here in DOORS:
            assert there in DOORS[here], other
        else:
            assert there == here or RANKS[there] < RANKS[here], other


def test_no_circle() -> None:
    graph = {module: imports(module) & FILES.keys() for module in FILES}
    for module in graph:  # a package's own names come from its modules
        graph[module] -= {parent for parent in FILES if module.startswith(f"{parent}.")}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def without_jax() -> list[str]:
    """Modules that login nodes import."""
    wings = set(RANKS) - USES_JAX - {"actsweep_tutorials"}
    free = [m for m in FILES if wing_of(m) in wings and m not in USES_JAX_TOO]
    return sorted([*free, "actsweep", "actsweep_tutorials.cli"])


def test_login_nodes_never_import_jax() -> None:
    modules = without_jax()
    for module in modules:
        direct = {name.partition(".")[0] for name in imports(module, inside_functions=False)}
        assert not direct & JAX, module
    code = (
        "import importlib, sys\n"
        f"for name in {modules}:\n"
        "    importlib.import_module(name)\n"
        "    assert 'jax' not in sys.modules, name\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
