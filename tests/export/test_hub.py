"""Uploading with the real client of the hub to a small hub on this machine: what arrives, and what is said."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from ocrsmith.errors import InputError, OcrsmithError, OutputError, SettingsError, WeightsError
from ocrsmith.export.card import CardFacts
from ocrsmith.export.contents import Contents, read_contents
from ocrsmith.export.hub import Target, check_target, upload
from ocrsmith.export.hub_errors import explained
from ocrsmith.export.model import export_merged

from .hub_server import TOKEN, Hub, Repo, running_hub

FIGURES = {
    "n": 200,
    "cer.mean": 0.6043,
    "cer.mean_ci95": [0.5, 0.7],
    "cer.median": 0.5,
    "cer.p90": 0.9,
    "exact_match": 0.1,
    "loops": 3,
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("hub") / "lines"
    facts = CardFacts(
        "lines",
        "nano",
        licence="mit",
        trained_on="d1" * 8,
        data={"content_hash": "e2" * 8, "split": "test"},
        before={**FIGURES, "cer.mean": 1.4907},
        after=FIGURES,
    )
    export_merged("nano", None, out, facts=facts, check=None)
    return out


@pytest.fixture
def contents(exported: Path, tmp_path: Path) -> Contents:
    """The export, with small weights' worth of bytes sent for real, in a folder of the test's own."""
    folder = tmp_path / "lines"
    folder.mkdir()
    for file in exported.iterdir():
        os.link(file, folder / file.name)
    return read_contents(folder)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running_hub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the store of this small hub is LFS's
        monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


def test_what_arrives_is_what_was_exported_byte_for_byte(contents: Contents, hub: Hub) -> None:
    result = upload(contents, Target("ada/lines"))
    repo = hub.repos["ada/lines"]
    assert repo.private
    assert result.private
    assert (result.commit, result.url, result.unchanged) == (repo.sha, f"{hub.url}/ada/lines", False)
    local = {file.name: file.read_bytes() for file in contents.folder.iterdir()}
    there = dict(repo.files)
    del there[".gitattributes"]
    assert there == local
    assert {"model.safetensors", "README.md", "config.json", "tokenizer.json"} <= set(there)
    assert "model.safetensors" in repo.lfs
    assert "config.json" not in repo.lfs
    about = [bearer for _, path, bearer in hub.asked if "ada/lines" in path or "whoami" in path]
    assert set(about) == {f"Bearer {TOKEN}"}
    assert {bearer for _, path, bearer in hub.asked if path.startswith("/lfs-store/")} == {None}
    assert len(repo.commits) == 1


def test_the_commit_says_on_what_data_and_how_well(contents: Contents, hub: Hub) -> None:
    upload(contents, Target("ada/lines"))
    (commit,) = hub.repos["ada/lines"].commits
    assert commit["summary"] == "lines: merged, mean CER 60.43 % (before 149.07 %)"
    assert "Trained on dataset " + "d1" * 8 in commit["description"]
    assert "Measured on dataset " + "e2" * 8 + ", split test, 200 pages" in commit["description"]


def test_public_must_be_said(contents: Contents, hub: Hub) -> None:
    upload(contents, Target("Letters/lines", public=True))
    assert not hub.repos["Letters/lines"].private
    with pytest.raises(OutputError, match="is public"):
        upload(contents, Target("Letters/lines"))


def test_what_is_there_already_is_not_sent_again(contents: Contents, hub: Hub) -> None:
    first = upload(contents, Target("ada/lines"))
    hub.asked.clear()
    again = upload(contents, Target("ada/lines"))
    assert again.unchanged
    assert again.commit == first.commit
    assert hub.paths("PUT") == []
    assert not any("commit" in path for path in hub.paths("POST"))


def test_an_upload_that_broke_off_goes_on_where_it_was(contents: Contents, hub: Hub) -> None:
    hub.fail["POST .*/commit/"] = (500, "out of breath")
    with pytest.raises(OutputError, match="has trouble"):
        upload(contents, Target("ada/lines"))
    assert list(hub.repos["ada/lines"].files) == [".gitattributes"], "nothing half is shown"
    sent = hub.paths("PUT")
    assert len(sent) == 2, "weights and tokenizer"
    hub.fail.clear()
    hub.asked.clear()
    upload(contents, Target("ada/lines"))
    assert hub.paths("PUT") == []
    assert (
        hub.repos["ada/lines"].files["model.safetensors"]
        == contents.folder.joinpath("model.safetensors").read_bytes()
    )


def test_other_content_is_replaced_only_when_told(contents: Contents, hub: Hub) -> None:
    hub.repos["ada/lines"] = repo = Repo(private=True)
    repo.files.update({"pytorch_model.bin": b"pickle", "README.md": b"mine"})
    with pytest.raises(OutputError, match=r"holds something else already: README\.md, pytorch_model\.bin"):
        upload(contents, Target("ada/lines"))
    assert repo.files["README.md"] == b"mine"
    upload(contents, Target("ada/lines", overwrite=True))
    assert "pytorch_model.bin" not in repo.files
    assert set(repo.files) == {".gitattributes", *(piece.name for piece in contents.pieces)}


def test_files_that_the_hub_left_out_are_noticed(contents: Contents, hub: Hub) -> None:
    hub.repos["ada/lines"] = repo = Repo(private=True)
    repo.files[".gitignore"] = b"model.safetensors"
    with pytest.raises(OutputError, match="is not what was sent"):
        upload(contents, Target("ada/lines", overwrite=True))


def test_a_commit_of_somebody_else_meanwhile_is_not_overwritten(
    contents: Contents, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repos["ada/lines"] = repo = Repo(private=True)

    def message(_: Contents) -> tuple[str, str]:
        repo.commits.append({})
        return "title", "text"

    monkeypatch.setattr("ocrsmith.export.hub.commit_message", message)
    with pytest.raises(OutputError, match="changed or made by somebody else"):
        upload(contents, Target("ada/lines"))


@pytest.mark.parametrize(
    ("where", "status", "said", "problem"),
    [
        ("GET /api/whoami", 401, "Invalid credentials", "does not accept the token"),
        (
            "POST /api/repos/create",
            403,
            "You don't have the rights",
            "no right to write.*the rights",
        ),
        ("POST /api/repos/create", 409, "You already created", "made by somebody else"),
        ("POST .*objects/batch", 403, "Private repository storage limit reached", "no room.*limit reached"),
        ("POST .*preupload", 500, "\x1b[31mred", "trouble"),
        ("PUT /lfs-store", 500, "disk", "trouble"),
        ("POST .*/commit/", 413, "too large\nand more", r"HTTP 413\).*too large\."),
        ("POST .*/commit/", 429, "slow", "busy"),
    ],
)
def test_failures_are_told_in_words_and_without_the_token(
    contents: Contents, hub: Hub, where: str, status: int, said: str, problem: str
) -> None:
    hub.fail[where] = (status, said)
    with pytest.raises(OcrsmithError, match=problem) as caught:
        upload(contents, Target("ada/lines"))
    assert TOKEN not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert caught.value.mend or status == 413


def test_before_a_long_export_the_hub_is_asked_what_may_be(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    check_target(Target("ada/lines"))
    assert hub.repos == {}, "asking makes nothing"
    for name in ("lines", "ada/li nes", "ada/lines/more", "../ada", "ada/" + "x" * 97):
        with pytest.raises(SettingsError, match="no name of a repository"):
            check_target(Target(name))
    with pytest.raises(SettingsError, match="cannot make a repository of 'grace'") as caught:
        check_target(Target("grace/lines"))
    assert "ada, Letters" in str(caught.value)
    hub.role = "read"
    with pytest.raises(SettingsError, match="may only read"):
        check_target(Target("ada/lines"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(SettingsError, match="HF_HUB_OFFLINE"):
        check_target(Target("ada/lines"))


def test_without_a_token_and_without_a_network(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(SettingsError, match="No token"):
        check_target(Target("ada/lines"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(OutputError, match="cannot be reached"):
        check_target(Target("ada/lines"))


def test_the_stores_own_words_are_not_repeated() -> None:
    told = explained(RuntimeError("https://store/x?signature=secret"), "ada/lines")
    assert isinstance(told, OutputError)
    assert "secret" not in str(told)
    assert explained(KeyError("ours"), "ada/lines") is None, "our own mistakes stay what they are"


def test_only_what_an_export_writes_is_listed(contents: Contents) -> None:
    folder = contents.folder
    for name in ("optimizer.pt", "journal.jsonl", ".env", "model.bin", "notes.md"):
        (folder / name).write_bytes(b"mine")
    (folder / "checkpoints").mkdir()
    (folder / "added_tokens.json").symlink_to("/etc/hostname")
    again = read_contents(folder)
    assert again.pieces == contents.pieces
    assert set(again.left_out) >= {"optimizer.pt", "checkpoints", ".env", "added_tokens.json"}


@pytest.mark.parametrize(
    ("name", "data", "error"),
    [
        ("model.safetensors", b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00.", WeightsError),
        ("config.json", b"\x80\x04\x95.", InputError),
        ("tokenizer.json", b"[]", InputError),
        ("README.md", b"\xff\xfe", InputError),
    ],
)
def test_a_pickle_under_another_name_does_not_go(
    contents: Contents, name: str, data: bytes, error: type[Exception]
) -> None:
    (contents.folder / name).unlink()
    (contents.folder / name).write_bytes(data)
    with pytest.raises(error, match=name):
        read_contents(contents.folder)


def test_a_folder_that_is_no_finished_export_is_refused(contents: Contents, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no finished export"):
        read_contents(tmp_path)
    (contents.folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="no weights"):
        read_contents(contents.folder)


def test_an_export_says_of_what_it_was_made(contents: Contents) -> None:
    origin = json.loads((contents.folder / "ocrsmith_export.json").read_text())
    assert (origin["kind"], origin["base"], origin["trained_on"]) == ("merged", "nano", "d1" * 8)
    assert origin["after"]["ci95"] == {"cer.mean": [0.5, 0.7]}
    card = (contents.folder / "README.md").read_text()
    assert "60.43 % (95 %: 50.00–70.00)" in card
