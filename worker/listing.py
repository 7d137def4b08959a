"""`impasto styles`: what a zoo holds."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from worker.catalog import Catalog
from worker.printable import printable

_DIGEST_LETTERS = 12


def to_json(zoo: Path, catalog: Catalog) -> str:
    """Everything known of the zoo, for programs."""
    held = {
        "zoo": str(zoo.resolve()),
        "styles": [
            {**asdict(style), "trunk": catalog.styles[style.name].trunk.card.name} for style in catalog.style_infos()
        ],
        "upscalers": [asdict(upscaler) for upscaler in catalog.upscaler_infos()],
        "refused": [str(refusal) for refusal in catalog.refused],
    }
    return json.dumps(held, indent=2)


def to_text(catalog: Catalog) -> str:
    """Tables for people: styles, upscalers, and what is refused and why."""
    styles = [
        (style.name, style.title, style.artist, style.year, catalog.styles[style.name].trunk.card.name, style.digest)
        for style in catalog.style_infos()
    ]
    upscalers = [(upscaler.name, str(upscaler.factor), upscaler.digest) for upscaler in catalog.upscaler_infos()]
    parts = [
        _table(("STYLE", "TITLE", "ARTIST", "YEAR", "TRUNK", "DIGEST"), styles) if styles else "No styles.",
        _table(("UPSCALER", "FACTOR", "DIGEST"), upscalers) if upscalers else "No upscalers.",
    ]
    if catalog.refused:
        parts.append("\n".join(["REFUSED", *(printable(str(refusal)) for refusal in catalog.refused)]))
    return "\n\n".join(parts)


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    shortened = [(*map(printable, row[:-1]), row[-1][:_DIGEST_LETTERS]) for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(heading, *shortened, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
             for row in (heading, *shortened))  # fmt: skip
    return "\n".join(lines)
