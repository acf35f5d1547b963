"""Writes tables as HTML."""

import html
from collections.abc import Iterable, Sequence


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> str:
    """Write a table; everything in it is plain text."""
    escaped = html.escape
    head = "".join(f'<th style="text-align:left">{escaped(text)}</th>' for text in headings)
    body = "".join(
        "<tr>"
        + "".join(f'<td style="text-align:left">{escaped(text)}</td>' for text in row)
        + "</tr>"
        for row in rows
    )
    top = f"<thead><tr>{head}</tr></thead>" if headings else ""
    title = f'<caption style="text-align:left">{escaped(caption)}</caption>' if caption else ""
    scrolled = f"<table>{title}{top}<tbody>{body}</tbody></table>"
    return f'<div style="overflow-x:auto">{scrolled}</div>'
