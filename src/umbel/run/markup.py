"""The page's skeleton: one style sheet, escaped text, tables that scroll on a phone, numbers with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files

from umbel.evaluate.intervals import Interval
from umbel.evaluate.metrics import Undefined

STYLE = files("umbel.run").joinpath("page.css").read_text(encoding="utf-8")


def document(title: str, body: Sequence[str]) -> str:
    """A whole page that loads nothing from anywhere; `body` is markup, `title` is text."""
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>{escape(title)}</title>'
    whole = "\n".join(body)
    return f'<!doctype html>\n<html lang="en"><head>{head}<style>{STYLE}</style></head>\n<body>\n{whole}\n</body></html>\n'


def section(title: str, *parts: str) -> str:
    """A heading and what stands under it."""
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>"


def card(*parts: str) -> str:
    """A framed part."""
    return f'<div class="card">{"".join(parts)}</div>'


def grid(cards: Sequence[str]) -> str:
    """Cards side by side, as many as fit."""
    return f'<div class="grid">{"".join(cards)}</div>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, marked: frozenset[int] = frozenset()) -> str:
    """A table that scrolls sideways; `head` is text, cells are markup from `cell` or `words`; `marked` rows are shaded."""
    titles = "".join(f'<th scope="col">{escape(title)}</th>' for title in head)
    lines = [f'<tr class="worst">{"".join(row)}</tr>' if at in marked else f"<tr>{''.join(row)}</tr>" for at, row in enumerate(rows)]
    return f'<div class="scroll"><table><thead><tr>{titles}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def title_cell(text: str, note: str = "", badge: str = "", *, mark: str = "") -> str:
    """A row's name, a muted note under it, a badge beside it; `mark` is markup before it."""
    beside = f'<span class="badge warn">{escape(badge)}</span>' if badge else ""
    return f'<th scope="row">{mark}{escape(text)}{beside}{_small(note)}</th>'


def words(text: str, note: str = "") -> str:
    """A cell of text or of a ready number."""
    return f"<td>{escape(text)}{_small(note)}</td>"


def plain(text: str) -> str:
    """A cell of text as it was written, from the left."""
    return f'<td class="left"><code>{escape(text)}</code></td>'


def cell(measured: Interval | Undefined | None, *, under: str = "", strong: bool = False) -> str:
    """A cell with a value (bold if `strong`) and its interval, or the reason there is none; `under` is markup below them."""
    if measured is None:
        return "<td></td>"
    if isinstance(measured, Undefined):
        return f'<td class="reason">—{_small(measured.reason)}</td>'
    value = f"<b>{number(measured.value)}</b>" if strong else number(measured.value)
    return f"<td>{value}{_small(span(measured))}{under}</td>"


def span(measured: Interval) -> str:
    """`low – high`, or why there are no bounds."""
    return measured.reason if measured.low is None or measured.high is None else f"{number(measured.low)} – {number(measured.high)}"


def number(value: float) -> str:
    """Four decimals for what is near 1, four digits for what is far from it.

    Example
    -------
    >>> number(0.74163), number(0.00002), number(12345.6), number(-0.00004)
    ('0.7416', '2.0e-05', '12,346', '-4.0e-05')
    """
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.2f}"
    return f"{value:.4f}" if size >= 0.0005 or not size else f"{value:.1e}"


def signed(value: float) -> str:
    """A difference: its sign and four decimals.

    Example
    -------
    >>> signed(0.00213), signed(-0.1)
    ('+0.0021', '−0.1000')
    """
    return f"{value:+.4f}".replace("-", "−")


def count(value: int) -> str:
    """A whole number with its thousands apart."""
    return f"{value:,}"


def facts(entries: Mapping[str, str]) -> str:
    """Short facts in a row: what it is, and the value."""
    items = [f'<li><b>{escape(value)}</b><span class="mute">{escape(name)}</span></li>' for name, value in entries.items()]
    return f'<ul class="facts">{"".join(items)}</ul>'


def folded(summary: str, *parts: str) -> str:
    """Parts that open at a click."""
    return f"<details><summary>{escape(summary)}</summary>{''.join(parts)}</details>"


def glossary(entries: Mapping[str, str]) -> str:
    """Names and what they mean."""
    return f"<dl>{''.join(f'<dt>{escape(name)}</dt><dd>{escape(meaning)}</dd>' for name, meaning in entries.items())}</dl>"


def _small(note: str) -> str:
    return f"<small>{escape(note)}</small>" if note else ""
