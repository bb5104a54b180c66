"""The engine `tesseract`: the program of that name, as the baseline that users know."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from ocrsmith.engines.base import PageRequest, ReadProgress, failed
from ocrsmith.engines.page_image import as_png
from ocrsmith.engines.workers import Stop, Stopped, read_each
from ocrsmith.errors import MissingExtraError, SettingsError
from ocrsmith.records import Prediction
from ocrsmith.settings.base import Settings
from ocrsmith.settings.provenance import file_sha256

MAX_OUTPUT_BYTES = 16 * 2**20
_QUESTION_SECONDS = 30.0
_LAST_WORDS = 1.0
"""Seconds for the output to come to its end after the program's: what it started may hold it open."""
_STREAMS: Mapping[str, str] = {"output": "stdout", "errors": "stderr"}
_DATA_FOLDER = re.compile(r'"([^"]+)"')


class TesseractSettings(Settings):
    """What the engine `tesseract` takes."""

    language: str = Field(
        default="eng",
        pattern=r"^[A-Za-z0-9_]+(/[A-Za-z0-9_]+)*(\+[A-Za-z0-9_]+(/[A-Za-z0-9_]+)*)*$",
        description="languages as tesseract names them, e.g. eng, chi_sim, fas or eng+chi_sim",
    )
    psm: int = Field(
        default=3, ge=1, le=13, description="page segmentation: 3 whole pages, 6 one block, 7 one line"
    )
    program: str = Field(default="tesseract", min_length=1, description="the program, a name or a path")
    timeout: float = Field(default=120.0, gt=0, description="seconds for one page")
    workers: int | None = Field(
        default=None, ge=1, le=256, description="pages at a time; by default one a core"
    )


class TesseractEngine:
    """Reads pages with the program `tesseract`, a process for each page."""

    name = "tesseract"

    def __init__(self, settings: TesseractSettings) -> None:
        """
        Raises:
            MissingExtraError: the program is not there, or does not run.
            SettingsError: it has not been taught one of the languages.
        """
        self.settings = settings
        program = shutil.which(settings.program)
        if program is None:
            raise _missing(f"The program {settings.program!r} is not installed.")
        self._program = program
        self.version = self._ask("--version").splitlines()[0].strip()
        listing = self._ask("--list-langs").splitlines()
        self._hashes = self._check_languages(listing[0], {line.strip() for line in listing[1:]})

    @classmethod
    def load(cls, **options: Any) -> TesseractEngine:
        """From options by name, those of `TesseractSettings`; None is as good as not given."""
        given = {name: value for name, value in options.items() if value is not None}
        return cls(TesseractSettings.from_values(given, place="engine tesseract"))

    def describe(self) -> dict[str, Any]:
        """See `Engine.describe`."""
        return {
            "version": self.version,
            "language": self.settings.language,
            "language_data": self._hashes,
            "psm": self.settings.psm,
            "not_honoured": {
                "prompt": "tesseract takes none",
                "processing": "tesseract scales images itself",
                "decoding": "tesseract has no tokens: no limit, loop control or log-probabilities",
            },
            "runtime": {"workers": self._workers, "timeout": self.settings.timeout},
        }

    def read(
        self, requests: Sequence[PageRequest], *, progress: ReadProgress | None = None
    ) -> Iterator[Prediction]:
        """See `Engine.read`."""
        yield from read_each(requests, self._read_page, workers=self._workers, progress=progress)

    @property
    def _workers(self) -> int:
        return self.settings.workers or os.cpu_count() or 1

    def _read_page(self, request: PageRequest, stop: Stop) -> Prediction:
        begin = time.perf_counter()
        settings = self.settings
        words = [self._program, "stdin", "stdout", "-l", settings.language, "--psm", str(settings.psm)]
        done = run_bounded(words, as_png(request.image), timeout=settings.timeout, stop=stop)
        seconds = time.perf_counter() - begin
        if done.problem or done.code:
            lines = done.errors.decode("utf-8", "replace").strip().splitlines()
            said = f": {lines[0][:200]}" if lines else ""
            reason = done.problem or f"it ended with code {done.code}{said}"
            return failed(request, f"tesseract: {reason}", seconds=seconds)
        text = done.output.decode("utf-8", "replace").replace("\f", "\n").strip()
        return Prediction(id=request.id, text=text, finish_reason="stop", seconds=seconds)

    def _ask(self, option: str) -> str:
        """What the program says about itself."""
        done = run_bounded([self._program, option], b"", timeout=_QUESTION_SECONDS, stop=Stop())
        said = (
            (done.output + done.errors).decode("utf-8", "replace").strip()
        )  # which of the two differs by version
        if done.problem or done.code or not said:
            why = done.problem or " ".join(said.split())[:200] or f"code {done.code}"
            raise _missing(f"The program {self.settings.program!r} does not run ({option}: {why}).")
        return said

    def _check_languages(self, headline: str, known: set[str]) -> dict[str, str]:
        """Hashes of the data of each language, where the program says in which folder they are."""
        wanted = self.settings.language.split("+")
        unknown = [language for language in wanted if language not in known]
        if unknown:
            raise SettingsError(
                f"tesseract has no data for {', '.join(unknown)}; it has {', '.join(sorted(known)) or 'none'}.",
                place="language",
                mend=f"Install it (Debian, Ubuntu: apt install tesseract-ocr-{unknown[0].replace('_', '-')}).",
            )
        folder = _DATA_FOLDER.search(headline)
        files = (
            {language: Path(folder.group(1), f"{language}.traineddata") for language in wanted}
            if folder
            else {}
        )
        return {language: f"sha256:{file_sha256(file)}" for language, file in files.items() if file.is_file()}


def _missing(problem: str) -> MissingExtraError:
    return MissingExtraError(
        problem,
        place="program",
        mend="Install it (Debian, Ubuntu: apt install tesseract-ocr; macOS: brew install tesseract), "
        "or give its path.",
    )


class Done:
    """What a program left: its exit code and output, or the problem for which it was ended."""

    def __init__(self) -> None:
        self.code: int | None = None
        self.output = b""
        self.errors = b""
        self.problem: str | None = None


def run_bounded(words: Sequence[str], data: bytes, *, timeout: float, stop: Stop) -> Done:
    """Runs a program without a shell, bounded in time and output.

    Args:
        words: program and arguments.
        data: its standard input.
        timeout: seconds.
        stop: ends it.

    Raises:
        Stopped: it was ended by `stop`.
    """
    done = Done()
    with tempfile.TemporaryFile() as file:  # a file cannot fill up as a pipe does
        file.write(data)
        file.seek(0)
        try:
            process = subprocess.Popen(
                words,
                stdin=file,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env=_environment(),
            )
        except OSError as error:
            done.problem = f"it cannot be started ({error})"
            return done
        readers = [
            threading.Thread(target=_drain, args=(process, done, name), daemon=True) for name in _STREAMS
        ]
        for reader in readers:
            reader.start()
        try:
            with stop.breaking_off(process.kill):
                done.code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            done.problem = f"it took longer than {timeout:g} s"
        finally:
            process.kill()
            process.wait()
            for reader in readers:
                reader.join(_LAST_WORDS)
    if stop.is_set:
        raise Stopped
    return done


def _drain(process: subprocess.Popen[bytes], done: Done, name: str) -> None:
    """Takes in one of the program's streams; ends the program when it is too long."""
    content = bytearray()
    with getattr(process, _STREAMS[name]) as pipe:
        while piece := pipe.read(2**16):
            content += piece
            if len(content) > MAX_OUTPUT_BYTES:
                done.problem = f"it wrote more than {MAX_OUTPUT_BYTES:,} bytes"
                process.kill()
                break
    setattr(done, name, bytes(content[:MAX_OUTPUT_BYTES]))


def _environment() -> dict[str, str]:
    """One thread for a page: pages are read side by side."""
    return {**os.environ, "OMP_THREAD_LIMIT": "1"}
