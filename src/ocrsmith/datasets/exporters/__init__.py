"""Exporters: each writes a dataset in one format. What a format cannot hold is counted and told."""

from ocrsmith.datasets.exporters.base import ExportFormat
from ocrsmith.datasets.exporters.registry import (
    EXPORT_FORMATS,
    ExportSummary,
    export_dataset,
    find_export_format,
)

__all__ = ["EXPORT_FORMATS", "ExportFormat", "ExportSummary", "export_dataset", "find_export_format"]
