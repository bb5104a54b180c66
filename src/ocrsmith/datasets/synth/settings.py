"""What to synthesise: every option with its meaning, checked when made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ocrsmith.datasets.synth.kinds import find_kind
from ocrsmith.datasets.synth.locales import LOCALES
from ocrsmith.datasets.synth.looks import find_look
from ocrsmith.errors import SettingsError


@dataclass(frozen=True)
class SynthSettings:
    """What to synthesise; checked when made.

    Raises:
        SettingsError: a value that cannot be.
    """

    texts: tuple[Path, ...] = ()
    """Files with one text in each line, and datasets whose texts are taken."""
    words: tuple[Path, ...] = ()
    """Word lists, TSV lines `word<tab>count`."""
    wordfreq: tuple[str, ...] = ()
    """Languages whose most frequent words come from the package `wordfreq`."""
    count: int = 1000
    kinds: tuple[str, ...] = ("lines",)
    """See `kinds`; each is as likely as the others."""
    looks: tuple[str, ...] = ("scan",)
    """See `looks`; each is as likely as the others."""
    strength: float = 0.5
    """Of the looks' degradations: 0 none, 1 twice what they are meant to be."""
    fonts: tuple[Path, ...] = ()
    """Font files and folders; none: the system's."""
    vertical: float = 0.0
    """Share of Chinese and Japanese lines and paragraphs that are set in columns."""
    language: str | None = None
    """Of labels and numbers where the script leaves a choice: en or fr, fa or ar."""
    chars: tuple[Path, ...] = ()
    confusions: tuple[Path, ...] = ()
    """See `emphasis`."""
    emphasis: float = 0.5
    """Share of the texts that are chosen or made for such a character."""
    encoding: str = "utf-8"
    """Of text files and word lists."""
    seed: int = 42

    def __post_init__(self) -> None:
        if not (self.texts or self.words or self.wordfreq):
            raise SettingsError(
                "There is nothing to write.",
                place="--texts",
                mend="Give --texts FILE (one text a line), --words FILE (word<tab>count) or --wordfreq LANG.",
            )
        for kind in self.kinds:
            find_kind(kind)
        for look in self.looks:
            find_look(look)
        if not self.kinds or not self.looks:
            raise SettingsError("There must be a kind and a look.", place="--kind, --look")
        if self.count < 1:
            raise SettingsError(f"{self.count} samples are none.", place="--count", mend="Use 1 or more.")
        for name in ("strength", "vertical", "emphasis"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise SettingsError(
                    f"{value} is not between 0 and 1.", place=f"--{name}", mend="Use a share, such as 0.5."
                )
        if self.language is not None and self.language not in LOCALES:
            raise SettingsError(
                f"There are no labels in {self.language!r}.",
                place="--language",
                mend=f"Use one of {', '.join(LOCALES)}.",
            )
