"""Synthetic data as a source for `build_dataset`: texts are gathered, then several processes draw samples,
which come in their order."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import multiprocessing.connection
import os
import signal
import tempfile
import threading
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ocrsmith.datasets.importers import Candidate, Source
from ocrsmith.datasets.synth import pixels
from ocrsmith.datasets.synth.emphasis import Emphasis, read_emphasis
from ocrsmith.datasets.synth.faces import FaceSet
from ocrsmith.datasets.synth.font_index import FontScan, Told, scan_fonts
from ocrsmith.datasets.synth.gather import Gatherer
from ocrsmith.datasets.synth.maker import Maker
from ocrsmith.datasets.synth.settings import SynthSettings
from ocrsmith.datasets.synth.texts import WordList, read_word_file, wordfreq_list
from ocrsmith.datasets.synth.typeset import Engine, best_engine
from ocrsmith.errors import InputError, OcrsmithError
from ocrsmith.records import Excluded

_TASK = 16
"""Samples that a process draws at a time."""
_WORDFREQ_LICENCE = (
    "Words by frequency come from the package wordfreq (code Apache-2.0), whose data are under CC BY-SA 4.0: "
    "name it where you publish what was drawn from them."
)


def synth_source(
    settings: SynthSettings,
    *,
    workers: int | None = None,
    engine: Engine | None = None,
    told: Told | None = None,
) -> Source:
    """A source whose rows are `settings.count` synthetic samples.

    What no font covers, and font files that cannot be used, come first, as items left out. The same settings,
    texts, fonts and versions of Pillow, FreeType and OpenCV give the same bytes, whatever `workers` is.

    Args:
        workers: processes that draw; None: one a core, eight at most. With 1 this process draws. More are
            started afresh (`spawn`): a script needs its `if __name__ == "__main__":`.
        engine: what sets text; None: the best that this Pillow has.
        told: how many font files are looked at, and how many there are.

    Raises:
        InputError: no font can be used, or a file of words, characters or confusions is wrong.
        MissingExtraError: the extra `synth` is not installed.
    """
    pixels.opencv()
    scan = scan_fonts(settings.fonts or None, told)
    if not scan.faces:
        raise InputError(
            "There is no usable font.",
            place=", ".join(map(str, settings.fonts)) or "the system's font folders",
            mend="Install some (Debian: `apt-get install fonts-noto-core fonts-noto-cjk`), or give --fonts.",
        )
    emphasis = read_emphasis(settings.chars, settings.confusions)
    words = [read_word_file(path, settings.encoding) for path in settings.words]
    words += [wordfreq_list(language) for language in settings.wordfreq]
    count = workers or min(8, os.cpu_count() or 1)
    job = SynthJob(settings, scan, emphasis, words, count, engine or best_engine())
    return Source(job.path, "synth", settings.count, job.read, job.notes(), job.options())


@dataclass(frozen=True)
class SynthJob:
    """A synthesis that is ready to run."""

    settings: SynthSettings
    scan: FontScan
    emphasis: Emphasis | None
    words: list[WordList]
    workers: int
    engine: Engine

    @property
    def path(self) -> Path:
        """The first file that texts come from."""
        given = (*self.settings.texts, *self.settings.words)
        return Path(given[0]) if given else Path(f"wordfreq-{self.settings.wordfreq[0]}")

    def options(self) -> dict[str, Any]:
        """All that decides the samples but the contents of files."""
        faces = sorted((Path(face.path).name, face.number) for face in self.scan.faces)
        return {
            **json.loads(json.dumps(asdict(self.settings), default=str)),
            "engine": self.engine,
            "faces": len(faces),
            "faces_digest": hashlib.sha256(json.dumps(faces).encode()).hexdigest()[:16],
        }

    def notes(self) -> tuple[str, ...]:
        """What a reader of the dataset should know."""
        settings = self.settings
        texts = [str(place) for place in (*settings.texts, *settings.words)]
        texts += [f"wordfreq:{language}" for language in settings.wordfreq]
        what = (
            f"Synthetic: {', '.join(settings.kinds)} from {', '.join(texts)}; look "
            f"{', '.join(settings.looks)}, strength {settings.strength:g}; {len(self.scan.faces)} faces; seed "
            f"{settings.seed}. `meta` of a sample says what was applied."
        )
        notes = [what]
        if self.engine == "own":
            notes.append(
                "This Pillow lacks Raqm or FriBidi: no kerning, no scripts that need a shaping engine."
            )
        if settings.wordfreq:
            notes.append(_WORDFREQ_LICENCE)
        return tuple(notes)

    def read(self) -> Reading:
        """Goes through the items: those left out, then the samples."""
        return Reading(self)

    def left_out(self, gatherer: Gatherer, folder: Path) -> Iterator[Excluded]:
        """What cannot be drawn, or drawn with. The system's own fonts are nobody's concern."""
        if self.settings.fonts:
            for path, why in self.scan.unreadable:
                yield Excluded("unusable_font", f"The font cannot be used: {why}.", "", path)
        yield from gatherer.words()
        yield from gatherer.lines(folder)

    def samples(self, gatherer: Gatherer, first: int) -> Iterator[Candidate | Excluded]:
        """The samples from number `first` on, in their order."""
        maker = Maker(self.settings, gatherer.faces, gatherer.writer(), self.engine, str(self.path))
        if self.workers == 1:
            for index in range(first, self.settings.count):
                yield maker.make(index)
            return
        pool = ProcessPoolExecutor(
            self.workers, multiprocessing.get_context("spawn"), initializer=_begin, initargs=(maker,)
        )
        waiting: deque[Future[list[Candidate | Excluded]]] = deque()
        try:
            for begin in range(first, self.settings.count, _TASK):
                waiting.append(pool.submit(_make, begin, min(begin + _TASK, self.settings.count)))
                if len(waiting) > 3 * self.workers:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        except BrokenProcessPool as error:
            raise OcrsmithError(
                "A process that draws samples ended before its time: short of memory, or a broken font.",
                place="--fonts",
                mend="Try --workers 1 or other fonts. The same command goes on where it stopped.",
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class Reading:
    """One way through the items of a job. Samples that are passed over are not drawn."""

    def __init__(self, job: SynthJob) -> None:
        self._job = job
        self._folder = tempfile.TemporaryDirectory(prefix="ocrsmith-synth-")
        self._gatherer = Gatherer(job.settings, FaceSet(job.scan.faces), job.emphasis, job.words, job.engine)
        self._left_out = job.left_out(self._gatherer, Path(self._folder.name))
        self._samples: Iterator[Candidate | Excluded] | None = None
        self._first = 0

    def __iter__(self) -> Reading:
        return self

    def __next__(self) -> Candidate | Excluded:
        try:
            return self._next()
        except BaseException:  # the end as well: nobody has to call `close`
            self.close()
            raise

    def _next(self) -> Candidate | Excluded:
        if self._samples is None:
            item = next(self._left_out, None)
            if item is not None:
                return item
            self._samples = self._job.samples(self._gatherer, self._first)
        return next(self._samples)

    def skip(self, count: int) -> int:
        """Passes over up to `count` items, before the first sample was taken; says over how many."""
        passed = sum(1 for _ in islice(self._left_out, count))
        if self._samples is None and passed < count:
            self._first = min(count - passed, self._job.settings.count)
            passed += self._first
        return passed

    def close(self) -> None:
        """Ends the processes and removes the texts that were gathered."""
        if isinstance(self._samples, Generator):
            self._samples.close()
        self._gatherer.close()
        self._folder.cleanup()


_maker: Maker | None = None


def _begin(maker: Maker) -> None:
    """Makes a process ready to draw. Ctrl-C is for the one that waits; when that is killed, this one ends."""
    global _maker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    pixels.opencv()
    _maker = maker


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _make(begin: int, end: int) -> list[Candidate | Excluded]:
    assert _maker is not None
    return [_maker.make(index) for index in range(begin, end)]
