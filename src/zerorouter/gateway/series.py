"""Counters, gauges and histograms as plain numbers, in the words of Prometheus only when asked.

The request path adds to numbers that it has looked up once: no lock (all of it happens on the
event loop), no object per sample. `SeriesCollector` turns them into what ``prometheus_client``
renders; that package is not imported before somebody scrapes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from prometheus_client.core import Metric


class Number:
    """One number of a counter or a gauge.

    Attributes:
        value: It.
    """

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, by: float = 1.0) -> None:
        """Add to it."""
        self.value += by

    def set(self, value: float) -> None:
        """Replace it."""
        self.value = value


class Buckets:
    """One distribution.

    Attributes:
        bounds: Upper bounds of the buckets, ascending; a value on a bound lies below it.
        counts: Of each bucket, the last one for what exceeds all bounds; (len(bounds) + 1,).
        total: The sum of all values.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Add a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


Child = TypeVar("Child", Number, Buckets)


class _Family(Generic[Child]):
    """All children of a name, by their labels.

    Attributes:
        name: In Prometheus, without the suffix of its kind.
        about: What it says.
        label_names: Names of the labels.
        children: By the labels' values.
    """

    def __init__(self, name: str, about: str, label_names: tuple[str, ...] = ()) -> None:
        self.name = name
        self.about = about
        self.label_names = label_names
        self.children: dict[tuple[str, ...], Child] = {}

    def labels(self, *values: str) -> Child:
        """The child with these labels, made if there is none yet."""
        found = self.children.get(values)
        if found is None:
            if len(values) != len(self.label_names):
                raise ValueError(f"{self.name}: found labels {values}; wanted {self.label_names}")
            found = self.children[values] = self._new()
        return found

    def clear(self) -> None:
        """Forget all children."""
        self.children.clear()

    def _new(self) -> Child:
        raise NotImplementedError


class Counter(_Family[Number]):
    """What only grows."""

    def __init__(self, name: str, about: str, label_names: tuple[str, ...] = ()) -> None:
        super().__init__(name, about, label_names)
        if not label_names:
            self.labels()  # it stands at 0 from the start

    def _new(self) -> Number:
        return Number()

    def inc(self, by: float = 1.0) -> None:
        """Add to the one without labels."""
        self.labels().inc(by)

    def collect(self) -> Metric:
        """In Prometheus's words."""
        from prometheus_client.core import CounterMetricFamily

        made = CounterMetricFamily(self.name, self.about, labels=self.label_names)
        for values, child in self.children.items():
            made.add_metric(values, child.value)
        return made


class Gauge(_Family[Number]):
    """What goes up and down."""

    def _new(self) -> Number:
        return Number()

    def set(self, value: float) -> None:
        """Set the one without labels."""
        self.labels().set(value)

    def collect(self) -> Metric:
        """In Prometheus's words."""
        from prometheus_client.core import GaugeMetricFamily

        made = GaugeMetricFamily(self.name, self.about, labels=self.label_names)
        for values, child in self.children.items():
            made.add_metric(values, child.value)
        return made


class Histogram(_Family[Buckets]):
    """Distributions over the same buckets."""

    def __init__(
        self, name: str, about: str, label_names: tuple[str, ...], *, bounds: Sequence[float]
    ) -> None:
        super().__init__(name, about, label_names)
        self.bounds = tuple(float(bound) for bound in bounds)

    def _new(self) -> Buckets:
        return Buckets(self.bounds)

    def collect(self) -> Metric:
        """In Prometheus's words."""
        from prometheus_client.core import HistogramMetricFamily

        made = HistogramMetricFamily(self.name, self.about, labels=self.label_names)
        for values, child in self.children.items():
            made.add_metric(values, list(_cumulated(child)), child.total)
        return made


class Series(Protocol):
    """What can be collected."""

    def collect(self) -> Metric:
        """In Prometheus's words."""


class SeriesCollector:
    """Hands series to a registry of ``prometheus_client``."""

    def __init__(self, series: Iterable[Series]) -> None:
        self._series = series

    def collect(self) -> Iterator[Any]:
        """All of them, as they stand."""
        for one in self._series:
            yield one.collect()

    def describe(self) -> Iterator[Any]:
        """Nothing is said before it is collected."""
        return iter(())


def _cumulated(child: Buckets) -> Iterator[tuple[str, float]]:
    from prometheus_client.utils import floatToGoString

    so_far = 0
    for bound, count in zip((*child.bounds, float("inf")), child.counts, strict=True):
        so_far += count
        yield floatToGoString(bound), so_far  # type: ignore[no-untyped-call]
