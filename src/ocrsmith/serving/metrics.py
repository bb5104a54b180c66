"""What the server counts, for Prometheus."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)


class Metrics:
    """Counters of one app. Labels have few values: endpoints, statuses, names of served models, reasons."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        self.requests = Counter(
            "ocrsmith_requests", "Requests by endpoint and status.", ["endpoint", "status"], registry=registry
        )
        self.seconds = Histogram(
            "ocrsmith_request_seconds",
            "Seconds from the head of a request to the end of its answer.",
            ["endpoint"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.tokens = Counter(
            "ocrsmith_tokens", "Tokens by model and kind.", ["model", "kind"], registry=registry
        )
        self.answers = Counter(
            "ocrsmith_answers",
            "Answers by model and the reason why they ended.",
            ["model", "finish_reason"],
            registry=registry,
        )
        self.rejected = Counter(
            "ocrsmith_rejected", "Requests and connections sent away, by reason.", ["reason"], registry=registry
        )
        self.cancelled = Counter(
            "ocrsmith_cancelled", "Requests whose client hung up before the answer.", registry=registry
        )
        ProcessCollector(registry=registry)  # memory, descriptors and processor time of this process

    def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Shows a number that somebody else keeps."""
        Gauge(name, text, registry=self._registry).set_function(value)

    def watch_figures(self, figures: Callable[[], Mapping[str, float]]) -> None:
        """Shows the figures that a backend keeps, as one metric with their names as labels."""
        self._registry.register(_Figures(figures))

    def page(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self._registry)


class _Figures(Collector):
    """Asks for figures when the page is made; those without a value are left out."""

    def __init__(self, figures: Callable[[], Mapping[str, float]]) -> None:
        self._figures = figures

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily("ocrsmith_canary", "Figures of the canary, by name.", labels=["figure"])
        for name, value in self._figures().items():
            if not math.isnan(value):
                family.add_metric([name], value)
        yield family

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Nothing is asked for when it is registered: the backend may not have started."""
        return iter(())
