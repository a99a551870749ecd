"""Prometheus metrics: OpenTelemetry's GenAI names where it has one, ``zerorouter_*`` elsewhere.

Labels come from the configuration and the catalog, never from what a client sends: a model that is
not known counts as ``other``; keys, sessions and decisions are no labels at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

from zerorouter.errors import require_extra
from zerorouter.gateway.records import RequestRecord
from zerorouter.gateway.series import (
    Buckets,
    Counter,
    Gauge,
    Histogram,
    Series,
    SeriesCollector,
)

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

SECONDS: Final = (
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0),
)
PER_TOKEN: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0)
OVERHEAD: Final = (
    *(0.00005, 0.0001, 0.0002, 0.0003, 0.0005, 0.00075, 0.001, 0.002, 0.003, 0.005, 0.01, 0.1),
)
TOKENS: Final = (1, 4, 16, 64, 256, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576)
CONTENT_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"


class _Served(NamedTuple):
    """The numbers of requests that one model at one upstream has served by one API."""

    duration: Buckets
    ttft: Buckets
    tpot: Buckets
    input_tokens: Buckets
    output_tokens: Buckets


class Metrics:
    """All metrics of a gateway.

    Attributes:
        known: Names of models that may be labels.
        before_scrape: Called before each rendering.
        series: What is rendered; whoever counts something else adds to it.
    """

    def __init__(self) -> None:
        require_extra("prometheus_client", "gateway", "The gateway's metrics")
        serving = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_response_model")
        self.duration = Histogram(
            "gen_ai_server_request_duration_seconds",
            "Request received to last byte sent.",
            serving,
            bounds=SECONDS,
        )
        self.ttft = Histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "Upstream call to the first bytes of its answer.",
            serving,
            bounds=SECONDS,
        )
        self.tpot = Histogram(
            "gen_ai_server_time_per_output_token_seconds",
            "Seconds per output token after the first, of streams.",
            serving,
            bounds=PER_TOKEN,
        )
        self.tokens = Histogram(
            "gen_ai_client_token_usage",
            "Tokens of a request.",
            (*serving, "gen_ai_token_type"),
            bounds=TOKENS,
        )
        self.requests = Counter(
            "zerorouter_requests",
            "Requests by what became of them.",
            ("api", "model", "policy", "status", "outcome"),
        )
        self.attempts = Counter(
            "zerorouter_upstream_attempts",
            "Calls of upstreams.",
            ("upstream", "model", "outcome"),
        )
        self.cost = Counter(
            "zerorouter_cost_usd", "Dollars spent, at the prices in force.", ("model",)
        )
        self.saved = Counter(
            "zerorouter_saved_usd",
            "Dollars by which served models were expected to cost less than the strongest one.",
            ("policy",),
        )
        self.overhead = Histogram(
            "zerorouter_overhead_seconds",
            "Request read to upstream called: what routing adds.",
            ("routed",),
            bounds=OVERHEAD,
        )
        self.running = Gauge("zerorouter_queue_depth", "Requests under way.")
        self.circuits = Gauge(
            "zerorouter_circuit_state", "0 closed, 1 half-open, 2 open.", ("upstream", "model")
        )
        self.sessions = Gauge("zerorouter_sessions", "Sessions remembered.")
        self.log_dropped = Gauge("zerorouter_log_lines_dropped", "Log lines without room.")
        self.reloads = Counter(
            "zerorouter_config_reloads", "Readings of the configuration.", ("outcome",)
        )
        self.config_ok = Gauge(
            "zerorouter_config_last_reload_successful", "Whether the last one was good."
        )
        self.config_ok.set(1)
        self.series: list[Series] = [
            *(self.duration, self.ttft, self.tpot, self.tokens, self.requests, self.attempts),
            *(self.cost, self.saved, self.overhead, self.running, self.circuits, self.sessions),
            *(self.log_dropped, self.reloads, self.config_ok),
        ]
        self.before_scrape: list[Callable[[], None]] = []
        self.known: frozenset[str] = frozenset()
        self._served: dict[tuple[str, str, str], _Served] = {}
        self._registry: CollectorRegistry | None = None

    @property
    def registry(self) -> CollectorRegistry:
        """A registry of ``prometheus_client`` that has all of it."""
        if self._registry is None:
            from prometheus_client import CollectorRegistry

            self._registry = CollectorRegistry()
            self._registry.register(SeriesCollector(self.series))
        return self._registry

    def count(self, record: RequestRecord) -> None:
        """Take a request that is over into account."""
        known = self.known
        model = record.model if record.model in known else "other"
        api, policy = record.api.value, record.policy or "none"
        outcome = record.outcome
        self.requests.labels(api, model, policy, str(record.status), outcome).value += 1
        for attempt in record.attempts:
            tried = attempt.model if attempt.model in known else "other"
            self.attempts.labels(attempt.upstream, tried, attempt.outcome).value += 1
        if record.attempts:
            routed = "no" if record.decision is None else "yes"
            self.overhead.labels(routed).observe(record.overhead_s)
        if record.status >= 400 or not record.upstream:
            return
        key = (api, record.upstream, model)
        served = self._served.get(key)
        if served is None:
            served = self._served[key] = self._serving(*key)
        served.duration.observe(record.seconds)
        if record.ttft_s is not None:
            served.ttft.observe(record.ttft_s)
        if record.stream and (tpot := record.tpot_s) is not None:
            served.tpot.observe(tpot)
        if record.usage is not None:
            served.input_tokens.observe(record.usage.input_tokens)
            served.output_tokens.observe(record.usage.output_tokens)
        if record.cost_usd is not None:
            self.cost.labels(model).value += record.cost_usd
        if record.decision is not None and (saved := saved_usd(record)) > 0:
            self.saved.labels(policy).value += saved

    def render(self) -> bytes:
        """The text that Prometheus reads."""
        from prometheus_client import generate_latest

        for refresh in self.before_scrape:
            refresh()
        out: bytes = generate_latest(self.registry)
        return out

    def show_circuits(self, states: Iterable[tuple[str, str, int]]) -> None:
        """Set the states of all circuits: upstream, model, number."""
        self.circuits.clear()
        for upstream, model, state in states:
            if model in self.known:
                self.circuits.labels(upstream, model).set(state)

    def _serving(self, api: str, upstream: str, model: str) -> _Served:
        labels = (api, upstream, model)
        return _Served(
            duration=self.duration.labels(*labels),
            ttft=self.ttft.labels(*labels),
            tpot=self.tpot.labels(*labels),
            input_tokens=self.tokens.labels(*labels, "input"),
            output_tokens=self.tokens.labels(*labels, "output"),
        )


def saved_usd(record: RequestRecord) -> float:
    """Expected cost of the strongest allowed model, minus that of the one that served.

    Expectation against expectation: what the strongest would really have written is not known.
    """
    decision = record.decision
    if decision is None:
        return 0.0
    estimates, cost = decision.weighing.estimates, decision.cost_usd
    if record.model != decision.model and record.model in estimates.models:
        cost = float(estimates.cost_usd[0, estimates.models.index(record.model)])
    saved = record.strongest_cost_usd - cost
    return saved if saved == saved else 0.0
