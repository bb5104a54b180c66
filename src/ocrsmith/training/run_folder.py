"""The run folder: what may be written into it, and what it says about the run."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ocrsmith.errors import OutputError, SettingsError
from ocrsmith.records import Excluded
from ocrsmith.settings.files import cannot_write, new_folder, scratch_prefix, write_text, writing
from ocrsmith.training.settings import TrainSettings, changed_on_resume

SETTINGS_FILE = "settings.yaml"
ENVIRONMENT_FILE = "environment.json"
LEFT_OUT_FILE = "excluded.jsonl"
OURS = (
    SETTINGS_FILE,
    ENVIRONMENT_FILE,
    LEFT_OUT_FILE,
    "metrics.jsonl",
    "adapter",
    "best",
    "checkpoints",
    "tensorboard",
)
"""All that a run writes."""


def check(run: Path, settings: TrainSettings, *, resume: bool, overwrite: bool) -> None:
    """Makes sure that the run folder may be written to; changes nothing.

    Raises:
        OutputError: it is in use, not a run, or cannot be written.
        SettingsError: resuming with settings that make it another run; lists them.
    """
    if run.exists() and not run.is_dir():
        raise OutputError(f"{run.name!r} is a file, not a folder.", place=str(run), mend="give another -o")
    held = {path.name for path in run.iterdir() if not _is_scratch(path)} if run.is_dir() else set()
    if held and not held <= set(OURS):
        strange = sorted(held - set(OURS))
        raise OutputError(
            f"The folder {run.name!r} holds other things: {', '.join(strange[:5])}.",
            place=str(run),
            mend="give a new folder for the run",
        )
    if SETTINGS_FILE in held and resume:
        changed = changed_on_resume(TrainSettings.from_yaml(run / SETTINGS_FILE), settings)
        if changed:
            raise SettingsError(
                f"The run cannot go on with other settings: {'; '.join(changed)}.",
                place=str(run / SETTINGS_FILE),
                mend="leave those options out, or begin a new run in another folder",
            )
    elif held and not overwrite:
        raise OutputError(
            f"The folder {run.name!r} holds a run already.",
            place=str(run),
            mend="go on with --resume, throw it away with --overwrite, or give another -o",
        )
    place = next(folder for folder in (run, *run.absolute().parents) if folder.exists())
    if not os.access(place, os.W_OK):
        raise cannot_write(PermissionError(errno.EACCES, "Permission denied"), run)


def prepare(run: Path, settings: TrainSettings, *, resume: bool, overwrite: bool) -> None:
    """Makes the run folder; with `overwrite` without what an earlier run left. Raises as `check`."""
    check(run, settings, resume=resume, overwrite=overwrite)
    if overwrite and not resume:
        discard(run)
    with writing(run):
        run.mkdir(parents=True, exist_ok=True)
        for path in [*run.iterdir(), *(run / "checkpoints").glob(scratch_prefix("checkpoint") + "*")]:
            if _is_scratch(path):
                _remove(path)


def discard(run: Path) -> None:
    """Throws away what a run wrote, and nothing else."""
    with writing(run):
        for name in OURS:
            _remove(run / name)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _is_scratch(path: Path) -> bool:
    """Whether it is a temporary file or folder that a killed process left behind."""
    return path.name.startswith(tuple(scratch_prefix(name) for name in (*OURS, "checkpoint")))


def describe(
    run: Path, settings: TrainSettings, environment: dict[str, Any], too_long: Sequence[Excluded]
) -> None:
    """Writes settings, environment and the list of samples left out."""
    settings.save(run / SETTINGS_FILE)
    write_text(run / ENVIRONMENT_FILE, json.dumps(environment, indent=2, ensure_ascii=False) + "\n")
    if too_long:
        lines = [
            {"reason": item.reason, "detail": item.detail, "image_path": item.image_path, "source": item.source}
            for item in too_long
        ]
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        write_text(run / LEFT_OUT_FILE, text)


def publish(run: Path, source: Path) -> Path:
    """Makes `RUN/adapter` a copy of a best or last checkpoint's adapter. Returns it."""
    target = run / "adapter"
    with new_folder(target) as scratch:
        for file in sorted(source.iterdir()):
            if file.is_file() and file.name not in _STATE and not file.name.startswith("rng_state"):
                shutil.copyfile(file, scratch / file.name)
    return target


_STATE = {"optimizer.pt", "scheduler.pt", "scaler.pt", "trainer_state.json", "best.json"}
