"""Standard streams that a result never depends on: closed, full, or of a narrow encoding."""

import contextlib
import io
import os
import sys
from typing import Any, TextIO


class LastingStream(io.TextIOBase):
    """A text stream whose errors end nothing: what can't be written is dropped.

    After the first error (a closed pipe, a full disk) its file descriptor leads to nowhere, so that
    other code of this process, and the interpreter at its end, can write to it as well.

    Args:
        stream: where the text goes; None for a stream that was closed before the start.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(OSError, ValueError):
                stream.reconfigure(errors="replace")

    def write(self, text: str) -> int:
        """Write text, or drop it; return its length."""
        self._try("write", text)
        return len(text)

    def flush(self) -> None:
        """Flush, or drop what waits."""
        self._try("flush")

    def _try(self, method: str, *arguments: Any) -> None:
        if self._stream is None:
            return
        try:
            getattr(self._stream, method)(*arguments)
        except (OSError, ValueError):  # ValueError: it was closed in Python
            self._lead_to_nowhere()

    def _lead_to_nowhere(self) -> None:
        stream, self._stream = self._stream, None
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())  # type: ignore[union-attr]
            os.close(nowhere)

    def fileno(self) -> int:
        """Return the file descriptor."""
        if self._stream is None:
            raise io.UnsupportedOperation("fileno")
        return self._stream.fileno()

    def __getattr__(self, name: str) -> Any:
        """Return what else the stream has, such as its `buffer`."""
        return getattr(self.__dict__.get("_stream"), name)

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return self._stream is not None and self._stream.isatty()

    def writable(self) -> bool:
        """Return True."""
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Return the encoding of the stream."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        """Return what becomes of characters that the encoding lacks."""
        return "replace"


def make_lasting() -> None:
    """Replace `sys.stdout` and `sys.stderr` by streams that last, once."""
    for name in ("stdout", "stderr"):
        if not isinstance(getattr(sys, name), LastingStream):
            setattr(sys, name, LastingStream(getattr(sys, name)))
