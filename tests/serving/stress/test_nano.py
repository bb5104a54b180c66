"""Our own server over nano stands it, and answers the same page always alike."""

from __future__ import annotations

from importlib import resources

from ocrsmith.engines.native import NativeEngine
from ocrsmith.serving.native import NativeBackend
from ocrsmith.serving.server import running
from ocrsmith.serving.settings import ServerSettings
from ocrsmith.serving.stress.run import stress
from ocrsmith.serving.stress.settings import StressSettings


def test_our_server_stands_it() -> None:
    backend = NativeBackend({"nano": NativeEngine.load("nano", device="cpu", max_new_tokens=64)})
    with (
        running(backend, ServerSettings(port=0, slots=2, queue=1)) as url,
        resources.as_file(resources.files("ocrsmith.nano") / "sample_archive" / "images") as images,
    ):
        settings = StressSettings(url=url, requests=8, clients=4, warm_up=0, stream=True, model="nano")
        run = stress(settings, images / "dossier-01_line-01.jpg")
    found = run.report
    assert (found.answered, found.errors, found.differing) == (8, {}, {})
    assert (
        found.rejected
    )  # four clients, two slots, one place to wait: the fourth is sent away, and comes again
    assert found.finish_reasons == {"stop": 8}
    assert found.tokens_per_second
    assert found.memory
    assert found.memory.source == f"{url}/metrics"
