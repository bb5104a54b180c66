"""Importers: each reads one kind of source. `find_source` recognises which one a path needs."""

from ocrsmith.datasets.importers.base import Candidate, Format, ImportOptions, LineCrop, Source
from ocrsmith.datasets.importers.registry import FORMATS, find_format, find_source

__all__ = [
    "FORMATS",
    "Candidate",
    "Format",
    "ImportOptions",
    "LineCrop",
    "Source",
    "find_format",
    "find_source",
]
