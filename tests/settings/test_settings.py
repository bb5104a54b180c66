"""Settings: YAML in and out, errors that name option, value and what is allowed, atomic writing."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from ocrsmith.errors import OutputError, SettingsError
from ocrsmith.settings import LoraSettings, Settings
from ocrsmith.settings.base import merge, read_yaml, without_none
from ocrsmith.settings.files import new_folder, write_text
from ocrsmith.settings.provenance import environment, file_sha256, versions

from ..permissions import run_bound


class Inner(Settings):
    depth: int = Field(default=1, ge=1, le=9)


class Outer(Settings):
    rate: float = Field(default=0.5, gt=0, le=1)
    kind: Literal["a", "b"] = "a"
    note: str | None = None
    inner: Inner = Field(default_factory=Inner)


def test_defaults_are_the_recipe():
    lora = LoraSettings()
    assert (lora.r, lora.alpha, lora.dropout) == (16, 16, 0)
    assert lora.targets == ("attention", "dense_mlp", "shared_experts", "routed_experts")
    assert not lora.trains_vision


@given(
    rate=st.floats(0.001, 1),
    kind=st.sampled_from(["a", "b"]),
    note=st.none() | st.text(st.characters(exclude_categories=["Cs", "Cc"])),
    depth=st.integers(1, 9),
)
def test_yaml_gives_the_same_settings_back(tmp_path_factory, rate, kind, note, depth):
    path = tmp_path_factory.mktemp("settings") / "settings.yaml"
    settings = Outer(rate=rate, kind=kind, note=note, inner=Inner(depth=depth))
    settings.save(path)
    assert Outer.from_yaml(path) == settings


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"rate": 2}, ["rate = 2", "less than or equal to 1"]),
        ({"rate": 0}, ["rate = 0", "greater than 0"]),
        ({"rate": "fast"}, ["rate = 'fast'", "valid number"]),
        ({"kind": "c"}, ["kind = 'c'", "'a' or 'b'"]),
        ({"inner": {"depth": 10}}, ["inner.depth = 10", "less than or equal to 9"]),
        ({"raet": 1}, ["Unknown option 'raet'", "rate, kind, note, inner"]),
        ({"inner": {"width": 1}}, ["Unknown option 'inner.width'", "known here: depth"]),
    ],
)
def test_wrong_values_name_option_value_and_range(values, words):
    with pytest.raises(SettingsError) as error:
        Outer.from_values(values, place="recipe.yaml")
    assert all(word in str(error.value) for word in words)
    assert error.value.place == "recipe.yaml"


def test_all_wrong_values_are_told_at_once():
    with pytest.raises(SettingsError) as error:
        Outer.from_values({"rate": 2, "kind": "c"})
    assert "rate = 2" in str(error.value)
    assert "kind = 'c'" in str(error.value)


def test_overrides_win_and_sections_merge():
    base = {"a": 1, "b": 2, "section": {"x": 1, "y": 2}}
    assert merge(base, {"a": None, "section": {"y": 3}}) == {"a": None, "b": 2, "section": {"x": 1, "y": 3}}
    assert merge(base, {"section": None})["section"] is None
    assert merge({}, {"section": {"y": 1}}) == {"section": {"y": 1}}
    assert base == {"a": 1, "b": 2, "section": {"x": 1, "y": 2}}


def test_options_that_were_not_given_are_left_out():
    assert without_none({"a": None, "b": 0, "section": {"x": None}, "other": {"x": None, "y": False}}) == {
        "b": 0,
        "other": {"y": False},
    }


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: [1, 2", "line 1"),
        (b"a: 1\nb: - x", "line 2"),
        (b"- 1\n- 2", "holds a list"),
        (b"\x89PNG\r\n\x1a\n\xff\xd8", "cannot be read as text"),
        (None, "does not exist"),
    ],
)
def test_files_that_are_no_settings_are_named(tmp_path, content, words):
    path = tmp_path / "recipe.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError) as error:
        read_yaml(path)
    assert words in str(error.value)
    assert str(path) in str(error.value)


def test_an_empty_file_is_all_defaults_and_a_bom_does_no_harm(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("# nothing yet\n")
    assert Outer.from_yaml(path) == Outer()
    path.write_bytes(b"\xef\xbb\xbfrate: 0.25\r\n")
    assert Outer.from_yaml(path).rate == 0.25


def test_settings_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Outer().rate = 0.1


# --- writing --------------------------------------------------------------------------------------------------


def test_a_failed_write_leaves_the_old_file_and_no_scrap(tmp_path, monkeypatch):
    path = tmp_path / "settings.yaml"
    write_text(path, "old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match="No space left") as error:
        write_text(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["settings.yaml"]
    assert error.value.place == str(path)


def test_a_folder_takes_its_place_at_once(tmp_path):
    target = tmp_path / "adapter"
    with new_folder(target) as scratch:
        (scratch / "a").write_text("1")
        assert not target.exists()
    assert os.listdir(target) == ["a"]
    with new_folder(target) as scratch:
        (scratch / "b").write_text("2")
    assert os.listdir(target) == ["b"]
    assert os.listdir(tmp_path) == ["adapter"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ValueError])
def test_a_stopped_folder_leaves_the_old_one(tmp_path, stop):
    target = tmp_path / "adapter"
    target.mkdir()
    (target / "old").write_text("1")

    def fill() -> None:
        with new_folder(target) as scratch:
            (scratch / "half").write_text("2")
            raise stop

    with pytest.raises(stop):
        fill()
    assert os.listdir(target) == ["old"]
    assert os.listdir(tmp_path) == ["adapter"]


WRITE = """
import sys
from pathlib import Path
from ocrsmith.errors import OutputError
from ocrsmith.settings.files import write_text
try:
    write_text(Path(sys.argv[1]) / "x", "1")
except OutputError as error:
    print(error)
"""


def test_no_permission_is_an_output_error(tmp_path):
    tmp_path.chmod(0o500)
    try:
        assert "Permission denied" in run_bound("-c", WRITE, tmp_path).stdout
    finally:
        tmp_path.chmod(0o700)


def test_a_file_in_place_of_a_folder_is_an_output_error(tmp_path):
    (tmp_path / "file").write_text("1")
    with pytest.raises(OutputError), new_folder(tmp_path / "file/adapter"):
        pass


# --- provenance -----------------------------------------------------------------------------------------------


def test_the_environment_says_what_was_used(tmp_path: Path):
    recorded = environment(seed=7)
    assert recorded["seed"] == 7
    assert recorded["versions"] == versions()
    assert {"ocrsmith", "python", "numpy", "pillow"} <= versions().keys()
    file = tmp_path / "file"
    file.write_bytes(b"abc" * 100_000)
    assert file_sha256(file) == hashlib.sha256(b"abc" * 100_000).hexdigest()
