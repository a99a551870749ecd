"""Plain numbers say to Prometheus what its own client would have said."""

from __future__ import annotations

import re

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerorouter.gateway.series import Counter, Gauge, Histogram, SeriesCollector

AMOUNTS = st.floats(0, 1e6, allow_nan=False)
BOUNDS = st.lists(st.sampled_from([0.00005, 0.01, 0.5, 1.0, 2.5, 64.0, 1e6]), min_size=1)
LABELS = st.text(max_size=5)


def ours(*series: Counter | Gauge | Histogram) -> str:
    registry = prometheus_client.CollectorRegistry()
    registry.register(SeriesCollector(series))
    return str(prometheus_client.generate_latest(registry).decode())


def theirs(registry: prometheus_client.CollectorRegistry) -> str:
    """Without the times of creation, which are no part of what is told."""
    text = prometheus_client.generate_latest(registry).decode()
    blocks = re.split(r"(?m)^(?=# HELP )", text)
    return "".join(block for block in blocks if not re.match(r"# HELP \S+_created ", block))


def lines(text: str) -> list[str]:
    return sorted(text.splitlines())


@given(st.lists(st.tuples(LABELS, AMOUNTS)), BOUNDS)
def test_a_histogram_renders_as_the_librarys(seen: list[tuple[str, float]], bounds: list[float]):
    bounds = sorted(set(bounds))
    registry = prometheus_client.CollectorRegistry()
    his = prometheus_client.Histogram("h", "About.", ("of",), buckets=bounds, registry=registry)
    mine = Histogram("h", "About.", ("of",), bounds=bounds)
    for label, amount in seen:
        his.labels(label).observe(amount)
        mine.labels(label).observe(amount)
    assert lines(ours(mine)) == lines(theirs(registry))


@given(st.lists(st.tuples(LABELS, LABELS, AMOUNTS)))
def test_a_counter_and_a_gauge_render_as_the_librarys(seen: list[tuple[str, str, float]]):
    registry = prometheus_client.CollectorRegistry()
    his = prometheus_client.Counter("c", "About.", ("a", "b"), registry=registry)
    hers = prometheus_client.Gauge("g", "About.", ("a", "b"), registry=registry)
    mine, other = Counter("c", "About.", ("a", "b")), Gauge("g", "About.", ("a", "b"))
    for a, b, amount in seen:
        for counter in (his, mine):
            counter.labels(a, b).inc(amount)
        for gauge in (hers, other):
            gauge.labels(a, b).set(amount)
    assert lines(ours(mine, other)) == lines(theirs(registry))


def test_a_counter_without_labels_stands_at_zero_from_the_start():
    assert "c_total 0.0" in ours(Counter("c", "About."))


def test_labels_have_to_be_as_many_as_their_names():
    with pytest.raises(ValueError, match="wanted"):
        Counter("c", "About.", ("a",)).labels("x", "y")
