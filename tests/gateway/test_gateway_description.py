"""The gateway keeps what its published description promises, whatever it is sent."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

from gateway.conftest import CLAUDE, GPT, config_for, fetch
from zerorouter.gateway.admin import Admin
from zerorouter.gateway.app import OPEN, PASSED_ON, ROUTES
from zerorouter.gateway.describing import description
from zerorouter.gateway.running import RunningGateway, ServeOptions, serve_in_thread
from zerorouter.sandbox import RunningSandbox

schemathesis = pytest.importorskip("schemathesis")

TOKEN = "the-token-of-the-administrator"
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
whole = schemathesis.openapi.from_dict(_prepared())
schema = whole.exclude(path_regex="^/admin")
admin = whole.include(
    path_regex="^/admin/(models$|upstreams|prices|keys|budgets|profiles$|config|onboarding$)"
)


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


@pytest.fixture(scope="module")
def administered(
    sandbox: RunningSandbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningGateway]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZEROROUTER_HOME", str(tmp_path_factory.mktemp("home")))
        options = ServeOptions(
            config=config_for(sandbox.url),
            port=0,
            environ={"CLAUDE_KEY": "c", "OPEN_KEY": "o", "ZEROROUTER_ADMIN_TOKEN": TOKEN},
            silent=True,
        )
        with serve_in_thread(options) as running:
            yield running


@admin.parametrize()
@BOUNDED
def test_every_answer_to_an_administrator_is_as_described(
    case: Any, administered: RunningGateway
) -> None:
    headers = {"authorization": f"Bearer {TOKEN}"}  # a wrong method may be a 404 there
    case.call_and_validate(base_url=administered.url, checks=KEPT[:-1], headers=headers)


def test_every_path_is_described_and_every_description_is_a_path(gateway: RunningGateway) -> None:
    served = {(path, "post") for path in PASSED_ON}
    served |= {(path, method.lower()) for path, by in ROUTES.items() for method in by}
    served |= {(path, "get") for path in OPEN} | {("/metrics", "get")}
    served |= {("/v1/models/{name}", "get"), ("/v1/messages/count_tokens", "post")}
    told = {
        (path, method)
        for path, by in description()["paths"].items()
        for method in by
        if method != "parameters"
    }
    assert {one for one in told if not one[0].startswith("/admin")} == served
    admin = Admin(gateway.gateway, "x", gateway.gateway.start)
    assert {one for one in told if one[0].startswith("/admin")} == {
        (_admin_path(*key), key[0].lower()) for key in admin._routes
    }


def _admin_path(_: str, first: str, last: str) -> str:
    if first == "profiles":
        return f"/admin/profiles/{last}".rstrip("/")
    named = {"": "", "*": "/{name}"}.get(last, f"/{{name}}/{last}")
    return f"/admin/{first}{named}"


def test_the_description_is_served_without_a_key(gateway: RunningGateway) -> None:
    answer = fetch(f"{gateway.url}/openapi.json")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == description()
