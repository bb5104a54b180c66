"""The store's tables. All names begin with `canary_`, so that they can stand beside others in one database."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)

FORMAT = "ocrsmith canary"
VERSION = 1

METADATA = MetaData()
_NUMBER = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up only what it calls INTEGER


def _numbered() -> Column[int]:
    return Column("number", _NUMBER, primary_key=True, autoincrement=True)


ABOUT = Table("canary_about", METADATA, Column("name", String(40), primary_key=True), Column("value", Text))
"""format, version, salt."""

EVENTS = Table(
    "canary_events",
    METADATA,
    _numbered(),
    Column("kind", String(20), nullable=False),
    Column("time", Double, nullable=False),
    Column("round", Integer, nullable=False),
    Column("base", Text, nullable=False),
    Column("candidate", Text, nullable=False),
    Column("detail", Text, nullable=False),
)

REQUESTS = Table(
    "canary_requests",
    METADATA,
    _numbered(),
    Column("id", Text, nullable=False),
    Column("round", Integer, nullable=False),
    Column("time", Double, nullable=False),
    Column("page", String(64), nullable=False),
    Column("prompt", String(64), nullable=False),
    Column("arm", String(10), nullable=False),
    Column("fallback", Boolean, nullable=False),
    Index("canary_requests_id", "id"),
    Index("canary_requests_page", "page", "prompt"),
    Index("canary_requests_round", "round", "time"),
)

ANSWERS = Table(
    "canary_answers",
    METADATA,
    _numbered(),
    Column("request", Text, nullable=False),
    Column("round", Integer, nullable=False),
    Column("arm", String(10), nullable=False),
    Column("page", String(64), nullable=False),
    Column("prompt", String(64), nullable=False),
    Column("shadow", Boolean, nullable=False),
    Column("finish", String(10), nullable=False),
    Column("seconds", Double, nullable=False),
    Column("tokens", Integer, nullable=False),
    Column("logprob_mean", Double),
    Column("logprob_min", Double),
    Column("length", Integer, nullable=False),
    Column("error", Text),
    Column("difference", Double),
    Column("text", Text),
    Index("canary_answers_arm", "round", "arm", "number"),
    Index("canary_answers_page", "page", "prompt"),
)

PAGES = Table(
    "canary_pages",
    METADATA,
    Column("page", String(64), nullable=False),
    Column("prompt", String(64), nullable=False),
    Column("time", Double, nullable=False),
    Column("prompt_text", Text, nullable=False),
    Column("bytes", _NUMBER, nullable=False),
    Column("image", LargeBinary, nullable=False),
    PrimaryKeyConstraint("page", "prompt"),
    Index("canary_pages_time", "time", "bytes"),
)
"""Kept pages: a share of all, the oldest dropped first."""

CORRECTIONS = Table(
    "canary_corrections",
    METADATA,
    _numbered(),
    Column("page", String(64), nullable=False),
    Column("prompt", String(64), nullable=False),
    Column("text", Text, nullable=False),
    Column("by", Text),
    Column("at", Text),
    Column("time", Double, nullable=False),
    Index("canary_corrections_page", "page", "prompt"),
)

COUNTERS = Table(
    "canary_counters",
    METADATA,
    Column("round", Integer, nullable=False),
    Column("name", String(40), nullable=False),
    Column("value", _NUMBER, nullable=False),
    PrimaryKeyConstraint("round", "name"),
)
