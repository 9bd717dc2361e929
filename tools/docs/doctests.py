"""Makes code blocks of the `>>>` lines in docstrings, for the API reference."""

import re
from typing import Any

import griffe

BLOCK = re.compile(r"^(?P<indent> *)>>> .*(?:\n(?P=indent)(?:>>>|\.\.\.|\S).*)*", re.MULTILINE)
FLAGS = re.compile(r" *# doctest: .*$", re.MULTILINE)


def fenced(text: str) -> str:
    """Return a docstring whose examples are fenced code blocks, without doctest's flags."""

    def block(found: re.Match[str]) -> str:
        indent = found["indent"]
        return f"{indent}```pycon\n{FLAGS.sub('', found[0])}\n{indent}```"

    return BLOCK.sub(block, text)


class Doctests(griffe.Extension):
    """Changes each docstring once it is read."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = fenced(obj.docstring.value)
