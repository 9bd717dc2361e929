"""Text as notebooks show it."""

import html


def as_html(text: str) -> str:
    """Return printed text as HTML that keeps its columns."""
    return f'<pre style="white-space: pre; overflow-x: auto">{html.escape(text)}</pre>'
