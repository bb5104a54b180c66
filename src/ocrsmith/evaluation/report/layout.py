"""The templates' environment: all is escaped, and a page runs and loads nothing but what this package ships."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import jinja2
from markupsafe import Markup

from ocrsmith.evaluation.report.diff import readable, visible
from ocrsmith.evaluation.report.wording import duration, figure, figure_change, percent, points, signed

_TEMPLATES = Path(__file__).parent / "templates"


@cache
def environment() -> jinja2.Environment:
    """Templates of this package. A name that a page lacks is an error, never an empty place."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., str]] = {
        "percent": percent,
        "points": points,
        "signed": signed,
        "duration": duration,
    }
    made.filters |= {name: _unbroken(write) for name, write in filters.items()}
    made.globals |= {"figure": _unbroken(figure), "figure_change": _unbroken(figure_change)}
    made.globals |= {"asset": asset, "digest": digest, "readable": readable, "visible": visible}
    return made


def asset(name: str) -> Markup:
    """A style sheet or script of this package, to stand in the page as it is."""
    return Markup((_TEMPLATES / name).read_text(encoding="utf-8"))


def digest(name: str) -> str:
    """How a content security policy names that file: `sha256-…`. The page runs nothing else."""
    content = hashlib.sha256(asset(name).encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(content).decode('ascii')}"


def _unbroken(write: Callable[..., str]) -> Callable[..., str]:
    """Keeps number and unit on one line."""
    return lambda *values: write(*values).replace(" ", "\u00a0")
