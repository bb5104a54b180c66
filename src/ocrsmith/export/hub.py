"""Puts an exported folder on the Hugging Face hub: one commit of listed files, private unless told otherwise.

Large files go first, under the name of their content; the commit comes last. So a repository never holds half
an export, and when an upload broke off, what had arrived is not sent again. The token is the hub client's
business: it is read from HF_TOKEN or from its own login, and stands in no message of ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError
from huggingface_hub.utils import validate_repo_id

from ocrsmith.errors import OutputError, SettingsError
from ocrsmith.export.contents import CARD, VERIFICATION_FILE, Contents, Piece
from ocrsmith.export.hub_errors import explained

_THE_HUBS_OWN = {".gitattributes"}
"""Files that the hub puts into a new repository."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where an export goes."""

    repo_id: str
    """NAME/REPO."""
    public: bool = False
    overwrite: bool = False
    """Whether what the repository holds is replaced, as a whole."""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What is on the hub now."""

    repo_id: str
    url: str
    commit: str
    private: bool
    unchanged: bool
    """Whether the repository held the same before, so that nothing was sent."""


@dataclass(frozen=True, slots=True)
class _Present:
    """A repository as it was found: its files by name, each with the SHA-256 or git's name of its content."""

    private: bool
    commit: str
    files: Mapping[str, str]


def check_target(target: Target) -> None:
    """Asks the hub whether the upload may be made, before an export that takes long; changes nothing there.

    Raises:
        SettingsError: the name is not valid; no token, or one that may only read; the hub is switched off here.
        OutputError: the hub cannot be reached, refuses, or the repository is public without `public`.
    """
    with _explaining(target.repo_id):
        _check(HfApi(), target)


def upload(contents: Contents, target: Target) -> Uploaded:
    """Uploads an export in one commit, and makes the repository where there is none.

    Args:
        contents: what `read_contents` found fit to go; nothing else is sent.
        target: where to.

    Raises:
        SettingsError, OutputError: as `check_target`; the repository holds other content without `overwrite`;
            the upload broke off.
    """
    api = HfApi()
    with _explaining(target.repo_id):
        present = _check(api, target)
        if present is not None and _same(contents, present):
            return _uploaded(api, target, present.commit, present.private, unchanged=True)
        if present is None:
            present = _make(api, target)
        elif present.files and not target.overwrite:
            raise OutputError(
                f"The repository {target.repo_id} holds something else already: {_few(present.files)}.",
                place="--repo-id",
                mend="Give another name, or replace what it holds with --overwrite.",
            )
        commit = _commit(api, contents, target.repo_id, present)
        arrived = _present(api, target.repo_id, commit)
        if arrived is None or not _same(contents, arrived):
            raise OutputError(
                f"What {target.repo_id} holds now is not what was sent.",
                place=target.repo_id,
                mend="Look at it on the hub, and run the same again with --overwrite.",
            )
        return _uploaded(api, target, commit, arrived.private)


def _make(api: HfApi, target: Target) -> _Present:
    api.create_repo(target.repo_id, private=not target.public)
    made = _present(api, target.repo_id)
    if made is None:
        raise OutputError(
            f"The hub made {target.repo_id}, but does not show it.", place=target.repo_id, mend="Run it again."
        )
    return made


def _commit(api: HfApi, contents: Contents, repo_id: str, present: _Present) -> str:
    """Makes the repository hold the export and nothing else; returns the commit."""
    others = sorted(set(present.files) - {piece.name for piece in contents.pieces})
    additions = [CommitOperationAdd(piece.name, str(piece.path)) for piece in contents.pieces]
    title, description = commit_message(contents)
    made = api.create_commit(
        repo_id,
        [*additions, *(CommitOperationDelete(name) for name in others)],
        commit_message=title,
        commit_description=description,
        parent_commit=present.commit,
    )
    return made.oid


def commit_message(contents: Contents) -> tuple[str, str]:
    """Title and text of the commit: what it is, how well it reads, and on which data."""
    origin = contents.origin
    before, after = origin.get("before") or {}, origin.get("after") or {}
    title = f"{origin.get('name')}: {origin.get('kind')}"
    if after.get("cer.mean") is not None:
        title += f", mean CER {_percent(after)}" + (f" (before {_percent(before)})" if before else "")
    lines = [f"Base: {origin.get('base')}"]
    if origin.get("trained_on"):
        lines.append(f"Trained on dataset {origin['trained_on']}")
    measured = origin.get("measured_on") or {}
    if measured.get("content_hash"):
        split = f", split {measured['split']}" if measured.get("split") else ""
        lines.append(f"Measured on dataset {measured['content_hash']}{split}, {after.get('n')} pages")
    names = {piece.name for piece in contents.pieces}
    verified = f"in {VERIFICATION_FILE}" if VERIFICATION_FILE in names else f"none; see {CARD}"
    lines.append(f"Verification: {verified}")
    return title, "\n".join(lines)


def _percent(figures: Mapping[str, Any]) -> str:
    return f"{figures['cer.mean'] * 100:.2f} %"


@contextmanager
def _explaining(repo_id: str) -> Iterator[None]:
    """Turns what goes wrong with the hub into an error that says what to do."""
    try:
        yield
    except Exception as error:
        told = explained(error, repo_id)
        if told is None:
            raise
        raise told from error


def _check(api: HfApi, target: Target) -> _Present | None:
    """The repository, or None if it is yet to be made. Raises as `check_target`, or the client's own errors."""
    _check_name(target.repo_id)
    if constants.is_offline_mode():
        raise SettingsError(
            "The hub is switched off here: HF_HUB_OFFLINE is set.",
            place="HF_HUB_OFFLINE",
            mend="Unset it, or export without --to hub and upload the folder elsewhere.",
        )
    who = api.whoami()
    token = (who.get("auth") or {}).get("accessToken") or {}
    if token.get("role") == "read":
        raise SettingsError(
            "The token may only read.",
            place="HF_TOKEN",
            mend="Make one that may write, at huggingface.co/settings/tokens.",
        )
    namespace = target.repo_id.split("/")[0]
    names = [str(who.get("name")), *(str(group.get("name")) for group in who.get("orgs") or [])]
    if namespace.lower() not in {name.lower() for name in names}:
        raise SettingsError(
            f"The token's owner cannot make a repository of {namespace!r}.",
            place="--repo-id",
            mend=f"Begin the name with one of {', '.join(names)}.",
        )
    present = _present(api, target.repo_id)
    if present is not None and not present.private and not target.public:
        raise OutputError(
            f"The repository {target.repo_id} is public: all could read what is uploaded.",
            place="--repo-id",
            mend="Say --public if they may, or give another name.",
        )
    return present


def _check_name(repo_id: str) -> None:
    try:
        validate_repo_id(repo_id)
        valid = repo_id.count("/") == 1
    except HFValidationError:
        valid = False
    if not valid:
        raise SettingsError(
            f"{repo_id!r} is no name of a repository.",
            place="--repo-id",
            mend="Give NAME/REPO: letters, digits, and . _ - within; at most 96 characters.",
        )


def _present(api: HfApi, repo_id: str, commit: str | None = None) -> _Present | None:
    try:
        info = api.model_info(repo_id, revision=commit, files_metadata=True)
    except RepositoryNotFoundError:
        return None
    files = {
        item.rfilename: str(item.lfs.sha256 if item.lfs else item.blob_id)
        for item in info.siblings or []
        if item.rfilename not in _THE_HUBS_OWN
    }
    return _Present(bool(info.private), str(info.sha), files)


def _same(contents: Contents, present: _Present) -> bool:
    """Whether the repository holds the export already, file for file."""
    if {piece.name for piece in contents.pieces} != set(present.files):
        return False
    return all(_content(piece, present.files[piece.name]) for piece in contents.pieces)


def _content(piece: Piece, there: str) -> bool:
    return there == (piece.sha256() if len(there) == 64 else piece.blob_id())


def _uploaded(api: HfApi, target: Target, commit: str, private: bool, *, unchanged: bool = False) -> Uploaded:
    return Uploaded(target.repo_id, f"{api.endpoint}/{target.repo_id}", commit, private, unchanged)


def _few(names: Mapping[str, str]) -> str:
    first = sorted(names)[:5]
    return ", ".join(first) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
