"""What a build knows of the samples that have come so far: a few numbers for each, no image and no text."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from pathlib import PurePath

from ocrsmith.datasets.checks import Checked
from ocrsmith.datasets.content_hash import sample_digest
from ocrsmith.datasets.groups import GroupIndex, GroupRule
from ocrsmith.datasets.importers import Candidate
from ocrsmith.datasets.settings import BuildSettings
from ocrsmith.datasets.staging import Facts, Staging
from ocrsmith.datasets.unique import UniqueNames
from ocrsmith.records import PageSample

_DIGEST_BYTES = 16


class Intake:
    """Takes samples in, in their order; first come those that an interrupted build had staged."""

    def __init__(self, staging: Staging, settings: BuildSettings) -> None:
        self._staging = staging
        self._rule = GroupRule.parse(settings.group_by)
        self._ids = UniqueNames()
        self._digests = bytearray()
        self.groups = GroupIndex(settings.seed, self._rule)
        self.text_lengths, self.widths, self.heights = array("I"), array("I"), array("I")
        for facts in staging.facts():
            self._remember(self._ids.take(facts.id), facts)

    def __len__(self) -> int:
        return len(self.widths)

    def add(self, checked: Checked, origin: str) -> None:
        """Takes the next sample, and brings it into staging. `origin`: the source that was named."""
        candidate, traits = checked.candidate, checked.traits
        wanted = _id_of(candidate)
        sample = PageSample(
            id=self._ids.take(wanted),
            image=checked.image,
            image_path=candidate.image_path,
            text=checked.text,
            group=self._rule.group_of(candidate),
            source=candidate.source,
            prompt=candidate.prompt,
            meta=candidate.meta,
        )
        facts = Facts(
            id=wanted,
            group=sample.group,
            path=sample.image_path,
            origin=origin,
            width=checked.width,
            height=checked.height,
            digest=sample_digest(sample.id, traits.image_digest, checked.text),
            traits=traits,
        )
        self._staging.add(sample, facts)
        self._remember(sample.id, facts)

    @property
    def repeated_ids(self) -> int:
        """Samples whose id was there already, and that got a suffix."""
        return self._ids.repeated

    def digests(self) -> Iterator[bytes]:
        """The digest of each sample."""
        for start in range(0, len(self._digests), _DIGEST_BYTES):
            yield bytes(self._digests[start : start + _DIGEST_BYTES])

    def _remember(self, sample_id: str, facts: Facts) -> None:
        self.groups.add(sample_id, facts.group, facts.origin, facts.traits, facts.path)
        self._digests += facts.digest
        self.text_lengths.append(facts.traits.length)
        self.widths.append(facts.width)
        self.heights.append(facts.height)


def _id_of(candidate: Candidate) -> str:
    """The source's id, else the image path as far as it is relative, else file and row."""
    if candidate.id:
        return candidate.id
    source = PurePath(candidate.source)
    if not candidate.image_path:
        return f"{source.stem}-{candidate.line}"
    path = PurePath(candidate.image_path.replace("\\", "/"))
    if path.is_absolute() and path.is_relative_to(source.parent):
        path = path.relative_to(source.parent)
    return path.as_posix()
