"""The engine interface: what a failed page looks like, and what an engine has to have."""

from __future__ import annotations

from ocrsmith.engines import Engine, PageRequest
from ocrsmith.engines.base import failed


def test_a_failed_page_has_no_text_and_one_line_of_reason() -> None:
    prediction = failed(PageRequest("p1", b""), "two\n  lines\tof reason", seconds=0.5)
    assert prediction.id == "p1"
    assert prediction.text == ""
    assert prediction.finish_reason == "error"
    assert prediction.error == "two lines of reason"
    assert prediction.seconds == 0.5


def test_a_failed_page_always_has_a_reason() -> None:
    assert failed(PageRequest("p1", b""), " \n").error == "unknown error"


def test_an_object_with_the_right_methods_is_an_engine() -> None:
    class Silent:
        name = "silent"

        def describe(self) -> dict[str, object]:
            return {}

        def read(self, requests: object, *, progress: object = None) -> object:
            return iter(())

    assert isinstance(Silent(), Engine)
    assert not isinstance(object(), Engine)
