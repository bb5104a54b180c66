"""Which document a sample belongs to, and which samples have to stay together.

Documents come from the source, from a rule of the user's, or are inferred from the names of files. Documents
that share a copy or near copy of a sample (`similar`) stay on one side, or the test split would hold what was
trained on.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath, PurePosixPath

import numpy as np

from ocrsmith.datasets.importers import Candidate
from ocrsmith.datasets.similar import (
    KINDS,
    REPEATED,
    Pairs,
    TraitTable,
    components,
    find_similar,
    without_repeated,
)
from ocrsmith.datasets.split import KeptSplits, hash_key
from ocrsmith.datasets.traits import Traits
from ocrsmith.errors import SettingsError

_LAST_PART = re.compile(r"[\W_]*(?:[^\W_]+)$")

_MARKED = re.compile(
    r"(?:^|[\W_]|(?<=[0-9]))(?:page|pg|p|line|ligne|zeile|l|folio|fol|f|seite|region|block|row|crop|word)"
    r"(?:[\W_]?[0-9]+|[\W_](?=[a-f]*[0-9])[0-9a-f]{4,})(?![^\W_])",
    re.IGNORECASE,
)
_CHINESE_MARK = re.compile(r"第?[0-9一二三四五六七八九十百]+[页頁行]|[页頁行][\W_]?[0-9]+")
_COUNTED = re.compile(r"^(?P<document>.*[0-9].*?)[\W_]+(?P<number>[0-9]+)$")
_MIN_DOCUMENTS = 5
_LARGEST = 0.25
_COVERED = 0.8
_MAX_SOURCES = 1000
_NONE = -1


@dataclass(frozen=True, slots=True)
class GroupRule:
    """How --group-by says which document a sample belongs to."""

    kind: str
    """`auto` (the source's group, else inferred from the names of files), `none` (each sample for itself),
    `parent`, `stem-prefix` or `column`."""
    argument: str = ""
    """For `stem-prefix`: the separator, empty for the last one. For `column`: its name."""

    @classmethod
    def parse(cls, text: str | None) -> GroupRule:
        """Reads `auto` (also meant by None), `none`, `parent`, `stem-prefix`, `stem-prefix:SEPARATOR` and
        `column:NAME`.

        Raises:
            SettingsError: anything else.
        """
        if text is None:
            return cls("auto")
        kind, _, argument = text.partition(":")
        plain = kind in ("auto", "none", "parent") and not argument
        if plain or kind == "stem-prefix" or (kind == "column" and argument):
            return cls(kind, argument)
        raise SettingsError(
            f"{text!r} is no way to group samples.",
            place="--group-by",
            mend="Use auto (what the source says, else the names of files where they tell), none (each sample "
            "for itself), parent (the image's folder), stem-prefix (its name without the last part: "
            "a_12_3.png → a_12), stem-prefix:__ (its name up to the first __), or column:NAME.",
        )

    @property
    def column(self) -> str | None:
        """The column that holds the group, if the rule names one."""
        return self.argument if self.kind == "column" else None

    def group_of(self, candidate: Candidate) -> str:
        """The group of a candidate; empty if it is one of its own, or is still to be inferred."""
        if self.kind == "none":
            return ""
        if self.kind in ("auto", "column"):
            return candidate.group
        path = PurePosixPath(candidate.image_path.replace("\\", "/"))
        if not path.name:
            return candidate.group
        parent = str(path.parent)
        if self.kind == "parent":
            return parent
        if self.argument:
            stem = path.stem.partition(self.argument)[0]
        else:
            stem = _LAST_PART.sub("", path.stem) or path.stem
        return stem if parent == "." else f"{parent}/{stem}"


def infer_document(path: str) -> tuple[str, str]:
    """The document that the name of a file speaks of, and the number that counts within it.

    In this order, of the path without its ending:

    - what stands before the first mark of a page or line with its number: `doc12_page003_line07` → `doc12`,
      `report.pdf#page=3` → `report.pdf`, `卷12_第3页` → `卷12`; a bare `page_1` → its folder;
    - what stands before the last number, if that has a number itself: `00012_3` → `00012`;
    - for a bare number, its folder: `letters/ms-7/0001` → `letters/ms-7`.

    Whether to believe that is decided over the whole source (`GroupIndex.resolve`).

    Returns:
        The document, empty if there is none; and the number, empty after a mark, where it proves nothing more.
    """
    folder, name = _parts(path)
    marks = [found for pattern in (_MARKED, _CHINESE_MARK) if (found := pattern.search(name))]
    if marks:
        head = name[: min(mark.start() for mark in marks)].rstrip("_-. #")
        return "/".join(part for part in (folder, head) if part), ""
    if counted := _COUNTED.match(name):
        return "/".join(part for part in (folder, counted["document"]) if part), counted["number"]
    return (folder, name) if folder and name.isdecimal() else ("", "")


def _parts(path: str) -> tuple[str, str]:
    """Folder, and the file's name without its ending."""
    folder, _, name = path.replace("\\", "/").rpartition("/")
    stem, dot, ending = name.rpartition(".")
    return folder, stem if dot and stem and ending.isalnum() and not ending.isdecimal() else name


@dataclass(frozen=True)
class Groups:
    """What `GroupIndex` found."""

    of_sample: np.ndarray
    """(N,) group of each sample."""
    sizes: np.ndarray
    """(G,) samples of each group."""
    keys: np.ndarray
    """(G,) int64 from `hash_key`, which decide where a group goes. Of joined documents, the largest: since the
    train split takes the largest keys, documents go to train together if one of them would by itself."""
    pairs: Pairs
    """The copies and near copies by which documents were joined."""
    repeated: np.ndarray
    """(R,) samples that stand in so many documents that they join none (see `similar.without_repeated`)."""
    named: int
    """Documents that have a name."""
    copies: int
    """Samples that are an exact copy of an earlier one: same bytes or same pixels, and same text."""
    contradictions: int
    """Samples whose picture came before with another text."""
    table: TraitTable
    sources: tuple[str, ...]
    of_source: np.ndarray
    """(N,) positions in `sources`."""
    inferred: Mapping[str, int]
    """Sources whose documents were inferred, with their number."""
    own_keys: np.ndarray
    """(N,) `hash_key` of each sample's id."""
    document_keys: np.ndarray
    """(N,) `hash_key` of each sample's document, -1 if it has none."""

    def document_of(self, source: str, path: str, sample_id: str) -> str:
        """The inferred document of a sample that has none, for its column `group`; empty if there is none."""
        return infer_document(path or sample_id)[0] if source in self.inferred else ""

    def kept(self, earlier: KeptSplits | None) -> tuple[np.ndarray, int]:
        """The split that an earlier dataset gave to each group.

        Returns:
            (G,) int8 positions in `SPLITS`, -1 where it had none of it; and the number of groups that it had on
            several sides. These go to the first of train, val and test that it had them in.
        """
        result = np.full(len(self.sizes), _NONE, dtype=np.int8)
        if earlier is None:
            return result, 0
        splits = earlier.find(self.document_keys)
        splits = np.where(splits >= 0, splits, earlier.find(self.own_keys))
        known = splits >= 0
        least = np.full(len(self.sizes), 127, dtype=np.int8)
        most = np.full(len(self.sizes), _NONE, dtype=np.int8)
        np.minimum.at(least, self.of_sample[known], splits[known])
        np.maximum.at(most, self.of_sample[known], splits[known])
        found = most >= 0
        result[found] = least[found]
        return result, int((found & (least != most)).sum())

    def notes(self) -> Iterator[str]:
        """What a user should know of documents and copies, a sentence each."""
        for source, count in self.inferred.items():
            yield (
                f"{PurePath(source).name}: {count} documents were inferred from the names of files, e.g. by "
                "page and line numbers (--group-by none switches that off)."
            )
        for kind, words in _KIND_WORDS.items():
            number = len(np.unique(self.pairs.second[self.pairs.kind == KINDS.index(kind)]))
            if number:
                yield f"{number} samples {words}; they are kept in one split with it."
        if self.contradictions:
            yield f"{self.contradictions} samples have the image of an earlier sample but another text."
        if len(self.repeated):
            yield (
                f"{len(self.repeated)} samples recur in more than {REPEATED} documents, as letterheads do: "
                "documents are not joined by them, so splits may share them."
            )


_KIND_WORDS = {
    "bytes": "have the very image file of an earlier one",
    "pixels": "have the same pixels as an earlier one",
    "near": "are near copies of an earlier one (a similar picture with the same or nearly the same text)",
    "text": "have the same long text as an earlier one under another picture",
}


class GroupIndex:
    """Takes in what is known of each sample, then says what has to stay together.

    Keeps about 80 bytes for a sample, in flat arrays: no images, no texts, no names.
    """

    def __init__(self, seed: int, rule: GroupRule | None = None) -> None:
        self._seed = seed
        self._infers = (rule or GroupRule.parse(None)).kind == "auto"
        self._given, self._inferred, self._own = array("q"), array("q"), array("q")
        self._counters = array("q")
        self._sources: dict[str, int] = {}
        self._of_source = array("H")
        self._table = TraitTable()

    def __len__(self) -> int:
        return len(self._own)

    def add(self, sample_id: str, group: str, source: str, traits: Traits, path: str = "") -> None:
        """Takes the next sample.

        Args:
            group: its document; empty: one of its own, or one to be inferred.
            source: what was imported: file or folder as the user named it.
            path: of its image in the source; empty: its id is looked at instead.
        """
        self._given.append(hash_key(self._seed, "group", group) if group else _NONE)
        self._own.append(hash_key(self._seed, "sample", sample_id))
        document, counter = "", ""
        if self._infers and not group:
            document, counter = infer_document(path or sample_id)
        self._inferred.append(hash_key(self._seed, "group", document) if document else _NONE)
        self._counters.append(hash_key(0, "counter", counter) if counter else _NONE)
        name = source if source in self._sources or len(self._sources) < _MAX_SOURCES else "(other sources)"
        self._of_source.append(self._sources.setdefault(name, len(self._sources)))
        self._table.add(traits)

    def resolve(self) -> Groups:
        """Joins what belongs together."""
        own = np.array(self._own, dtype=np.int64)
        of_source = np.array(self._of_source, dtype=np.int64)
        names, inferred = self._believable(of_source)
        named = np.where(inferred >= 0, inferred, np.array(self._given, dtype=np.int64))
        # Names and samples are hashed apart (`hash_key` takes the kind), so their keys can share one list.
        _, documents = np.unique(np.where(named >= 0, named, own), return_inverse=True)
        pairs, repeated = without_repeated(find_similar(self._table), documents)
        roots = components(int(documents.max(initial=-1)) + 1, documents[pairs.first], documents[pairs.second])
        _, of_sample = np.unique(roots[documents], return_inverse=True)
        sizes = np.bincount(of_sample)
        copies, contradictions = self._count_copies()
        return Groups(
            of_sample=of_sample,
            sizes=sizes,
            keys=_keys(of_sample, named, own, len(sizes)),
            pairs=pairs,
            repeated=repeated,
            named=len(np.unique(named[named >= 0])),
            copies=copies,
            contradictions=contradictions,
            table=self._table,
            sources=tuple(self._sources),
            of_source=of_source,
            inferred=names,
            own_keys=own,
            document_keys=named,
        )

    def _believable(self, of_source: np.ndarray) -> tuple[dict[str, int], np.ndarray]:
        """Sources whose inferred documents convince, and the (N,) inferred documents of these, else -1.

        They convince if a source has at least five, most samples share theirs with others, and none has more
        than a quarter of all. Numbers that no word explains must start anew from document to document.
        """
        inferred = np.array(self._inferred, dtype=np.int64)
        counters, found = np.array(self._counters, dtype=np.int64), {}
        for name, number in self._sources.items():
            mine = np.flatnonzero((of_source == number) & (inferred >= 0))
            counted = counters[mine] >= 0
            if 2 * len(np.unique(counters[mine][counted])) > counted.sum():
                mine = mine[~counted]
            documents, sizes = np.unique(inferred[mine], return_counts=True)
            total = int((of_source == number).sum())
            if (
                len(documents) >= _MIN_DOCUMENTS
                and sizes[sizes > 1].sum() >= _COVERED * total
                and sizes.max() <= _LARGEST * total
            ):
                found[name] = len(documents)
        believed = np.isin(of_source, [self._sources[name] for name in found])
        return found, np.where(believed, inferred, _NONE)

    def _count_copies(self) -> tuple[int, int]:
        """Samples with picture and text of an earlier one, and with its picture but another text."""
        pixels, texts = self._table.column("pixels"), self._table.column("text")
        order = np.lexsort((texts, pixels))
        same_picture = pixels[order][1:] == pixels[order][:-1]
        same_text = texts[order][1:] == texts[order][:-1]
        return int((same_picture & same_text).sum()), int((same_picture & ~same_text).sum())


def _keys(of_sample: np.ndarray, named: np.ndarray, own: np.ndarray, count: int) -> np.ndarray:
    """(count,) the largest key among a group's documents and the first of its samples without one.

    Further samples without a document are mostly copies made on purpose (degraded, recompressed); if each had a
    say, such datasets would end up in train nearly whole.
    """
    keys = np.full(count, _NONE, dtype=np.int64)
    has_name = named >= 0
    np.maximum.at(keys, of_sample[has_name], named[has_name])
    alone = np.flatnonzero(~has_name)
    groups, first = np.unique(of_sample[alone], return_index=True)
    keys[groups] = np.maximum(keys[groups], own[alone[first]])
    return keys
