"""Engines: different ways to run the model behind one interface (`engines.base.Engine`)."""

from ocrsmith.engines.base import Engine, PageRequest

__all__ = ["Engine", "PageRequest"]
