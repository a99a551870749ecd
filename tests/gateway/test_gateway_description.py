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
from zerorouter.sandbox import RunningSandbox

schemathesis = pytest.importorskip("schemathesis")

MODELS = ("zerorouter/auto", "zerorouter/auto:cost", "zerorouter/quality", GPT, CLAUDE)


def _prepared() -> dict[str, Any]:
    """The description, with models that exist (others are a 404 and go no further), and small."""
    told: dict[str, Any] = copy.deepcopy(description())
    schemas = told["components"]["schemas"]
    schemas["ModelName"] = {"type": "string", "enum": [*MODELS]}
    schemas["EmbeddingsRequest"]["properties"]["model"] = {"enum": ["text-embedding-3-small"]}
    schemas["BatchRequest"]["properties"]["prompts"]["maxItems"] = 4
    schemas["Globs"]["maxItems"] = 4
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


STRICT = schemathesis.checks.CHECKS.get_one("negative_data_rejection")


@pytest.mark.usefixtures("sandbox")
@schema.parametrize()
@settings(
    max_examples=6,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_as_described(case: Any, gateway: RunningGateway) -> None:
    # What goes to an upstream is the upstream's to refuse.
    is_ours = "decisions" in case.operation.definition.raw.get("tags", ())
    r = case.call_and_validate(base_url=gateway.url, checks=[*KEPT, STRICT] if is_ours else KEPT)
    import sys

    print("SEEN", case.method, case.operation.path, r.status_code, file=sys.stderr)


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
