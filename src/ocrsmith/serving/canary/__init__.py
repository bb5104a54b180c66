"""A candidate beside the model that serves: it gets a share of the pages, is watched, and falls back by rule.

choice, reading, backend     who answers; what is remembered of an answer
store (schema, opening …)    SQLite or PostgreSQL
recorder, rollback, figures  the thread that writes and watches
comparison, report, review   what a person reads, and corrects
"""

from ocrsmith.serving.canary.backend import CanaryBackend, open_canary
from ocrsmith.serving.canary.store import Store, open_store

__all__ = ["CanaryBackend", "Store", "open_canary", "open_store"]
