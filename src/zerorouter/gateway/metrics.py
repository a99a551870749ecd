"""Prometheus metrics: OpenTelemetry's GenAI names where it has one, ``zerorouter_*`` elsewhere.

Labels come from the configuration and the catalog, never from what a client sends: a model that is
not known counts as ``other``; keys, sessions and decisions are no labels at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from zerorouter.errors import require_extra
from zerorouter.gateway.records import RequestRecord
from zerorouter.routing.decision import Decision

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


class Metrics:
    """All metrics of a gateway, in a registry of its own.

    Attributes:
        known: Names of models that may be labels.
        before_scrape: Called before each rendering.
    """

    def __init__(self) -> None:
        require_extra("prometheus_client", "gateway", "The gateway's metrics")
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.registry: CollectorRegistry = CollectorRegistry()
        serving = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_response_model")
        at: Any = {"registry": self.registry}
        self.duration = Histogram(
            "gen_ai_server_request_duration_seconds",
            "Request received to last byte sent.",
            serving,
            buckets=SECONDS,
            **at,
        )
        self.ttft = Histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "Upstream call to the first bytes of its answer.",
            serving,
            buckets=SECONDS,
            **at,
        )
        self.tpot = Histogram(
            "gen_ai_server_time_per_output_token_seconds",
            "Seconds per output token after the first, of streams.",
            serving,
            buckets=PER_TOKEN,
            **at,
        )
        self.tokens = Histogram(
            "gen_ai_client_token_usage",
            "Tokens of a request.",
            (*serving, "gen_ai_token_type"),
            buckets=TOKENS,
            **at,
        )
        self.requests = Counter(
            "zerorouter_requests",
            "Requests by what became of them.",
            ("api", "model", "policy", "status", "outcome"),
            **at,
        )
        self.attempts = Counter(
            "zerorouter_upstream_attempts",
            "Calls of upstreams.",
            ("upstream", "model", "outcome"),
            **at,
        )
        self.cost = Counter(
            "zerorouter_cost_usd", "Dollars spent, at the prices in force.", ("model",), **at
        )
        self.saved = Counter(
            "zerorouter_saved_usd",
            "Dollars by which served models were expected to cost less than the strongest one.",
            ("policy",),
            **at,
        )
        self.overhead = Histogram(
            "zerorouter_overhead_seconds",
            "Request read to upstream called: what routing adds.",
            ("routed",),
            buckets=OVERHEAD,
            **at,
        )
        self.running = Gauge("zerorouter_queue_depth", "Requests under way.", **at)
        self.circuits = Gauge(
            "zerorouter_circuit_state",
            "0 closed, 1 half-open, 2 open.",
            ("upstream", "model"),
            **at,
        )
        self.sessions = Gauge("zerorouter_sessions", "Sessions remembered.", **at)
        self.log_dropped = Gauge("zerorouter_log_lines_dropped", "Log lines without room.", **at)
        self.reloads = Counter(
            "zerorouter_config_reloads", "Readings of the configuration.", ("outcome",), **at
        )
        self.config_ok = Gauge(
            "zerorouter_config_last_reload_successful", "Whether the last one was good.", **at
        )
        self.config_ok.set(1)
        self.before_scrape: list[Callable[[], None]] = []
        self.known: frozenset[str] = frozenset()
        self._made: dict[tuple[Any, ...], Any] = {}

    def count(self, record: RequestRecord) -> None:
        """Take a request that is over into account."""
        model = record.model if record.model in self.known else "other"
        operation = record.api.value
        self._child(
            self.requests,
            operation,
            model,
            record.policy or "none",
            str(record.status),
            record.outcome,
        ).inc()
        for attempt in record.attempts:
            tried = attempt.model if attempt.model in self.known else "other"
            self._child(self.attempts, attempt.upstream, tried, attempt.outcome).inc()
        if record.attempts:
            routed = "no" if record.decision is None else "yes"
            self._child(self.overhead, routed).observe(record.overhead_s)
        if record.status >= 400 or not record.upstream:
            return
        serving = (operation, record.upstream, model)
        self._child(self.duration, *serving).observe(record.seconds)
        if record.ttft_s is not None:
            self._child(self.ttft, *serving).observe(record.ttft_s)
        if (tpot := record.tpot_s) is not None:
            self._child(self.tpot, *serving).observe(tpot)
        if record.usage is not None:
            self._child(self.tokens, *serving, "input").observe(record.usage.input_tokens)
            self._child(self.tokens, *serving, "output").observe(record.usage.output_tokens)
        if record.cost_usd is not None:
            self._child(self.cost, model).inc(record.cost_usd)
        if record.decision is not None and (saved := saved_usd(record)) > 0:
            self._child(self.saved, record.policy or "none").inc(saved)

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

    def _child(self, metric: Any, *labels: str) -> Any:
        """``metric.labels(*labels)``, looked up once: the library's own way takes a lock."""
        key = (id(metric), *labels)
        made = self._made.get(key)
        if made is None:
            made = metric.labels(*labels)
            self._made[key] = made
        return made


def strongest_cost_usd(decision: Decision) -> float:
    """Expected cost of the allowed model most likely to be right; NaN without a price."""
    estimates, allowed = decision.weighing.estimates, decision.weighing.allowed
    strongest = int(allowed[estimates.p_correct[0, allowed].argmax()])
    return float(estimates.cost_usd[0, strongest])


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
    saved = strongest_cost_usd(decision) - cost
    return saved if saved == saved else 0.0
