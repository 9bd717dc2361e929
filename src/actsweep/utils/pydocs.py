"""The text of Python's own language reference, as `help()` shows it: it is on every machine."""

import functools
import hashlib

from actsweep.utils.errors import UserError


@functools.cache
def text() -> str:
    """Return the topics of the running Python's `help()`, joined in the order of their names.

    Raises:
        UserError: this Python was installed without them.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise UserError(
            f"data=pydocs: this Python has no pydoc_data.topics ({error}); type for example "
            "data=text data.path=book.txt"
        ) from error
    return "\n".join(topics[name] for name in sorted(topics))


@functools.cache
def digest() -> str:
    """Return the hash of `text`, which differs between versions of Python."""
    return hashlib.sha256(text().encode()).hexdigest()
