"""Parts of formulas that lose digits or overflow, and what to type instead."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations

from actsweep.formulas.grammar import Node, parse, show, walk

REWRITES = {
    "log(1+exp(x))": ("softplus(x)", "overflows, and is 0 for negative x"),
    "log(1+x)": ("log1p(x)", "has no digits near 0"),
    "1/(1+exp(-x))": ("sigmoid(x)", "has a derivative that overflows"),
    "x/(1+exp(-x))": ("silu(x)", "has a derivative that overflows"),
    "exp(x)/(1+exp(x))": ("sigmoid(x)", "overflows"),
    "(exp(x)-exp(-x))/(exp(x)+exp(-x))": ("tanh(x)", "overflows, and has no digits near 0"),
    "(exp(x)-exp(-x))/2": ("sinh(x)", "has no digits near 0"),
    "exp(x)-1": ("expm1(x)", "has no digits near 0"),
    "1-erf(x)": ("erfc(x)", "has no digits for large x"),
    "x*tanh(softplus(x))": ("mish(x)", "loses digits where the derivative is nearly 0"),
    "x*sigmoid(x)": ("silu(x)", "loses digits where the derivative is nearly 0"),
    "log(sigmoid(x))": ("log_sigmoid(x)", "is -inf for large negative x"),
    "x*(1+erf(x/sqrt(2)))/2": ("gelu(x)", "has no digits for large negative x"),
}
"""What loses digits, with x for any part, and the formula of the same that doesn't."""
_PATTERNS = [(parse(text), new, why) for text, (new, why) in REWRITES.items()]


@dataclass(frozen=True)
class Rewrite:
    """A part of a formula, what to type instead, and why."""

    part: str
    better: str
    why: str


def rewrites(formula: str) -> list[Rewrite]:
    """Return the parts of a formula that have a better form; of parts within such a part none.

    >>> [each.better for each in rewrites("x*tanh(log(1+exp(2*x)))")]
    ['softplus(x*2.0)']
    """
    return list(_found(parse(formula)))


def _found(node: Node) -> Iterator[Rewrite]:
    for pattern, new, why in _PATTERNS:
        if (bound := _match(pattern, node, None)) is not None:
            better = show(_replaced(parse(new), bound))
            yield Rewrite(show(node), better, why)
            return
    for arg in node.args:
        yield from _found(arg)


def _match(pattern: Node, node: Node, bound: Node | None) -> Node | None:
    """Return what x of the pattern stands for; None if the part isn't like the pattern."""
    if pattern.kind == "x":
        fits = any(part.kind == "x" for part in walk(node)) and bound in (None, node)
        return node if fits else None
    if pattern.kind != node.kind or len(pattern.args) != len(node.args):
        return None
    if pattern.kind == "number":
        return bound if pattern == node else None
    orders = permutations(node.args) if node.kind in ("+", "*", "max", "min") else [node.args]
    for order in orders:
        if (matched := _match_all(pattern.args, order, bound)) is not None:
            return matched
    return None


def _match_all(
    patterns: tuple[Node, ...], nodes: tuple[Node, ...], bound: Node | None
) -> Node | None:
    # Numbers last: they say nothing of what x stands for.
    pairs = sorted(zip(patterns, nodes, strict=True), key=lambda pair: pair[0].kind == "number")
    for pattern, node in pairs:
        if pattern.kind == "number":
            if pattern != node:
                return None
        elif (bound := _match(pattern, node, bound)) is None:
            return None
    return bound


def _replaced(node: Node, x: Node) -> Node:
    """Return a tree in which each x is a part."""
    if node.kind == "x":
        return x
    return Node(node.kind, tuple(_replaced(arg, x) for arg in node.args), node.value, node.name)
