"""The gateway keeps what its published description promises, whatever it is sent."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

from gateway.conftest import CLAUDE, GPT, fetch
from zerorouter.gateway.app import OPEN, PASSED_ON, ROUTES
from zerorouter.gateway.describing import description
from zerorouter.gateway.running import RunningGateway

schemathesis = pytest.importorskip("schemathesis")

MODELS = ("zerorouter/auto", "zerorouter/auto:cost", "zerorouter/quality", GPT, CLAUDE)

REACHABLE = {
    "max_cost_usd": {"minimum": 10},
    "max_latency_s": {"minimum": 1_000},
    "max_p95_latency_s": {"minimum": 10_000},
    "max_mean_latency_s": {"minimum": 1_000},
    "budget_usd": {"minimum": 100},
    "min_accuracy": {"minimum": 0, "maximum": 0.1},
}


def _prepared() -> dict[str, Any]:
    """The description, with models that exist (others are a 404 and go no further), and small."""
    told: dict[str, Any] = copy.deepcopy(description())
    schemas = told["components"]["schemas"]
    schemas["ModelName"] = {"type": "string", "enum": [*MODELS]}
    schemas["EmbeddingsRequest"]["properties"]["model"] = {"enum": ["text-embedding-3-small"]}
    schemas["BatchRequest"]["properties"]["prompts"]["maxItems"] = 4
    schemas["Globs"] |= {"maxItems": 2, "items": {"enum": ["gpt-4o-mini-*", "o3-mini"]}}
    headers = told["components"]["parameters"]
    for name in ("allow", "deny"):
        headers[name]["schema"] = {"enum": ["gpt-4o-mini-*", "o3-mini"]}
    wished = [{k: p["schema"] for k, p in headers.items()}]
    wished += [schemas[name]["properties"] for name in ("Wishes", "RouteRequest", "BatchRequest")]
    for by in wished:  # bounds that some model keeps
        for name, bound in REACHABLE.items():
            for spelled in {name, name.replace("_", "-")} & by.keys():
                by[spelled] = {"type": "number", **bound}
    paths = told["paths"]
    paths["/v1/models/{name}"]["get"]["parameters"][0]["schema"] = {"enum": [GPT, CLAUDE]}
    for name in ("Message", "Part"):
        schemas[name]["additionalProperties"] = False
    return told


schemathesis.checks.load_all_checks()
KEPT = [
    schemathesis.checks.CHECKS.get_one(name)
    for name in (
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
        "unsupported_method",
    )
]
schema = schemathesis.openapi.from_dict(_prepared())


strict = schemathesis.openapi.from_dict(description()).include(
    path=["/v1/route", "/v1/feedback"], method="POST"
)
STRICT = schemathesis.checks.CHECKS.get_one("negative_data_rejection")
BOUNDED = settings(
    max_examples=6,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@schema.parametrize()
@BOUNDED
def test_every_answer_is_as_described(case: Any, gateway: RunningGateway) -> None:
    case.call_and_validate(base_url=gateway.url, checks=KEPT)


@strict.parametrize()
@BOUNDED
def test_what_is_not_as_described_is_refused(case: Any, gateway: RunningGateway) -> None:
    """Where the gateway itself answers; the rest is the upstreams' to refuse."""
    case.call_and_validate(base_url=gateway.url, checks=[*KEPT, STRICT])


def test_every_path_is_described_and_every_description_is_a_path() -> None:
    served = {(path, "post") for path in PASSED_ON}
    served |= {(path, method.lower()) for path, by in ROUTES.items() for method in by}
    served |= {(path, "get") for path in OPEN} | {("/metrics", "get")}
    served |= {("/v1/models/{name}", "get"), ("/v1/messages/count_tokens", "post")}
    told = {(path, method) for path, by in description()["paths"].items() for method in by}
    assert told == served


def test_the_description_is_served_without_a_key(gateway: RunningGateway) -> None:
    answer = fetch(f"{gateway.url}/openapi.json")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == description()
