"""Kinds of samples: each writes its content (what is said), which then draws itself in a face and size."""

from collections.abc import Mapping

from ocrsmith.datasets.synth.kinds.content import Content, Kind
from ocrsmith.datasets.synth.kinds.forms import FORMS
from ocrsmith.datasets.synth.kinds.lines import LINES
from ocrsmith.datasets.synth.kinds.paragraphs import PARAGRAPHS
from ocrsmith.datasets.synth.kinds.receipts import RECEIPTS
from ocrsmith.datasets.synth.kinds.tables import TABLES
from ocrsmith.errors import SettingsError

KINDS: Mapping[str, Kind] = {kind.name: kind for kind in (LINES, PARAGRAPHS, FORMS, RECEIPTS, TABLES)}


def find_kind(name: str) -> Kind:
    """The kind of that name.

    Raises:
        SettingsError: there is none; lists them.
    """
    if name not in KINDS:
        known = "; ".join(f"{kind.name}: {kind.title}" for kind in KINDS.values())
        raise SettingsError(f"There is no kind {name!r}.", place="--kind", mend=f"Use one of {known}.")
    return KINDS[name]


__all__ = ["KINDS", "Content", "Kind", "find_kind"]
