"""The public surface: what packages export is a list that changes only on purpose."""

from __future__ import annotations

import importlib
import inspect

import pytest

from .source import modules

PUBLIC: dict[str, set[str]] = {
    "ocrsmith.engines": {"Engine", "PageRequest"},
    "ocrsmith.evaluation": {
        *("Comparison", "Evaluation", "Metrics"),
        *("cer", "compare", "evaluate", "load", "save_comparison"),
    },
    "ocrsmith.images": {
        *("DEFAULT_MAX_PIXELS", "MODES", "Alpha", "ImageViews", "Mode"),
        *("cut", "flatten_image", "make_views", "open_image", "tile_grid"),
    },
    "ocrsmith.reading": {
        *("Block", "Box", "Document", "JoinedTable", "Page", "Reader", "Span"),
        *("join_tables", "load"),
    },
    "ocrsmith.settings": {"LoraSettings", "LoraTarget", "Settings"},
    "ocrsmith.text": {
        *("FREE_OCR", "IMAGE_TOKEN", "PROMPTS", "Box", "GroundedSpan"),
        *("find_prompt", "locate", "parse_boxes"),
    },
}
PACKAGES = [module.name for module in modules() if module.path.name == "__init__.py"]


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_a_package_exports_what_is_listed_here(name: str) -> None:
    assert set(importlib.import_module(name).__all__) == PUBLIC[name]


@pytest.mark.parametrize("name", PACKAGES)
def test_what_is_exported_exists_and_is_explained(name: str) -> None:
    package = importlib.import_module(name)
    for member in getattr(package, "__all__", []):
        value = getattr(package, member)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), f"{name}.{member}"
