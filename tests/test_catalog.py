from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest

from zerorouter.catalog import CAPABILITIES, Catalog, ModelSpec, Price, prices_from_litellm
from zerorouter.errors import CatalogError, UnknownNameError

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def shipped() -> Catalog:
    return Catalog.load()


def spec(name: str = "a-model", **changes: Any) -> ModelSpec:
    price = Price(input_usd_per_mtok=1.0, output_usd_per_mtok=2.0, date="2026-08")
    facts: dict[str, Any] = {"name": name, "vendor": "acme", "family": "a", "price": price}
    return ModelSpec(**(facts | changes))


def catalog_json(*rows: dict[str, Any], **head: Any) -> str:
    base: dict[str, Any] = {"format": "zerorouter-catalog", "version": 1, "models": list(rows)}
    return json.dumps(base | head)


# -- the shipped catalog ---------------------------------------------------------------------------


def test_default_pool_is_forty_to_fifty_five_models_ready_to_route_to(shipped: Catalog) -> None:
    pool = shipped.pool()
    assert 40 <= len(pool) <= 55
    for model in pool:
        assert model.price is not None, model.name
        assert model.context_tokens is not None, model.name
        assert model.released is not None, model.name
        assert model.throughput_tok_s is not None, model.name
        assert model.ttft_s is not None, model.name
        assert model.vendor, model.name
        assert model.family, model.name


def test_every_shipped_price_and_speed_says_where_it_is_from(shipped: Catalog) -> None:
    for model in shipped:
        assert model.price is not None, model.name
        assert model.price.source, model.name
        assert model.speed_source, model.name
        assert model.price.date is not None, model.name


def test_default_pool_holds_no_base_model_host_variant_or_preview(shipped: Catalog) -> None:
    for name in shipped.pool().names:
        assert name == name.lower()
        assert not any(mark in name for mark in ("@", "#", "-exp", "-hf", "turbo-instruct"))
    assert "llama-2-7b" not in shipped
    assert "gemini-1.5-pro-exp-0827" not in shipped


def test_models_that_think_are_marked(shipped: Catalog) -> None:
    thinkers = {m.name for m in shipped.pool() if m.reasoning}
    assert thinkers == {
        "o1-mini-2024-09-12",
        "o1-preview-2024-09-12",
        "o3-mini",
        "deepseek-r1",
        "qwq-32b",
        "grok-3-mini",
    }


def test_current_list_price_wins_over_the_recorded_one(shipped: Catalog) -> None:
    price = shipped.get("o1-mini-2024-09-12").price
    assert price is not None
    assert (price.input_usd_per_mtok, price.output_usd_per_mtok) == (1.1, 4.4)
    assert price.cached_input_usd_per_mtok == 0.55
    assert price.date == "2026-08"


def test_open_weights_are_labelled_with_the_nominal_price_of_their_size(shipped: Catalog) -> None:
    price = shipped.get("llama-3.1-70b-instruct").price
    assert price is not None
    assert price.kind == "size-tier"


def test_models_without_records_are_on_offer_but_outside_the_pool(shipped: Catalog) -> None:
    newcomer = shipped.get("gpt-5-2025-08-07")
    assert newcomer.price is not None
    assert newcomer.reasoning
    assert not newcomer.in_default_pool


def test_attribution_of_the_licensed_tables_travels_with_the_catalog(shipped: Catalog) -> None:
    assert any("CC-BY-4.0" in line for line in shipped.sources)


def test_shipped_catalog_is_small_and_equals_its_own_round_trip(shipped: Catalog) -> None:
    text = shipped.to_json()
    assert len(text.encode()) < 150_000
    assert Catalog.from_json(text) == shipped
    packaged = ROOT / "src" / "zerorouter" / "assets" / "catalog.json"
    assert packaged.read_text(encoding="utf-8") == text


def test_loading_the_catalog_imports_neither_pydantic_nor_yaml() -> None:
    code = (
        "import sys; from zerorouter.catalog import Catalog; Catalog.load();"
        "print([m for m in ('pydantic', 'yaml', 'numpy', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.data
def test_shipped_assets_are_what_the_sources_give(records_dir: Path) -> None:
    done = subprocess.run(
        [sys.executable, "scripts/build_catalog.py", "--check", "--data", str(records_dir)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


# -- looking up, narrowing, changing ---------------------------------------------------------------


def test_unknown_name_suggests_the_nearest_one(shipped: Catalog) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'gpt-4o-mini-2024-07-18'"):
        shipped.get("gpt4o-mini-2024-07-18")


def test_globs_select_in_catalog_order_and_exclusion_wins(shipped: Catalog) -> None:
    chosen = shipped.select(["claude-3-*", "GPT-4o*"], exclude=["*haiku*"])
    assert "claude-3-opus-20240229" in chosen
    assert "gpt-4o-2024-08-06" in chosen
    assert not any("haiku" in name for name in chosen.names)
    assert list(chosen.names) == [name for name in shipped.names if name in chosen]


def test_wanted_glob_without_a_match_is_an_error_and_an_excluded_one_is_not(
    shipped: Catalog,
) -> None:
    with pytest.raises(UnknownNameError):
        shipped.select(["gtp-*"])
    assert shipped.select(exclude=["gtp-*"]) == shipped


def test_added_model_goes_last_and_a_known_one_keeps_its_place(shipped: Catalog) -> None:
    first = replace(shipped.models[0], family="changed")
    changed = shipped.with_models([spec("newcomer"), first])
    assert changed.names == (*shipped.names, "newcomer")
    assert changed.models[0].family == "changed"
    assert shipped.models[0].family != "changed"


def test_price_of_an_unknown_model_is_refused(shipped: Catalog) -> None:
    with pytest.raises(UnknownNameError):
        shipped.with_prices({"nobody": Price(input_usd_per_mtok=1, output_usd_per_mtok=1)})


def test_specs_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        spec().name = "other"  # type: ignore[misc]


# -- checks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"name": "m", "price": {"input_usd_per_mtok": -1, "output_usd_per_mtok": 1}}, "input"),
        (
            {"name": "m", "price": {"input_usd_per_mtok": 1, "output_usd_per_mtok": float("nan")}},
            "price.output_usd_per_mtok: found nan",
        ),
        ({"name": "m", "price": {"input_usd_per_mtok": 1}}, "price.output_usd_per_mtok: missing"),
        ({"name": "m", "price": {"input": 1}}, "price: unknown field 'input'"),
        ({"name": "m", "price": 3}, "price: found 3"),
        ({"name": "m", "released": "2024-13"}, "released: found '2024-13'"),
        ({"name": "m", "released": 2024}, "released: found 2024"),
        ({"name": "m", "capabilities": ["telepathy"]}, "capabilities: found 'telepathy'"),
        ({"name": "m", "capabilities": "vision"}, "capabilities: found 'vision'"),
        ({"name": "m", "params_b": 0}, "params_b: found 0"),
        ({"name": "m", "context_tokens": 8192.5}, "context_tokens: found 8192.5"),
        ({"name": "m", "throughput_tok_s": True}, "throughput_tok_s: found True"),
        ({"name": "m", "reasoning": "yes"}, "reasoning: found 'yes'"),
        ({"name": "m", "colour": "red"}, "unknown field 'colour'"),
    ],
)
def test_wrong_fact_is_reported_with_model_and_field(row: dict[str, Any], says: str) -> None:
    with pytest.raises(CatalogError) as caught:
        Catalog.from_json(catalog_json(row), where="cards.json")
    message = str(caught.value)
    assert message.startswith("cards.json: model 'm': ")
    assert says in message


def test_model_without_a_name_is_refused() -> None:
    with pytest.raises(CatalogError, match="a model without a name: name: found None"):
        Catalog.from_json(catalog_json({"vendor": "acme"}))


def test_name_that_stands_twice_is_refused() -> None:
    with pytest.raises(CatalogError, match="model 'm': name: found twice"):
        Catalog.from_json(catalog_json({"name": "m"}, {"name": "m"}))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not valid JSON"),
        ("[]", "not a catalog"),
        (catalog_json(version=2), "version 2"),
        (catalog_json(models={}), "models: wanted a list"),
    ],
)
def test_what_is_no_catalog_is_refused(text: str, says: str) -> None:
    with pytest.raises(CatalogError, match=says):
        Catalog.from_json(text, where="cards.json")


def test_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="no-such"):
        Catalog.load(tmp_path / "no-such.json")


def test_catalog_file_of_ones_own_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    mine = Catalog(models=(spec("b", capabilities=frozenset({"tools", "vision"})), spec("a")))
    path.write_text(mine.to_json(), encoding="utf-8")
    assert Catalog.load(path) == mine


def test_every_capability_is_described() -> None:
    assert set(CAPABILITIES) == {"vision", "audio", "video", "documents", "tools", "json"}
    assert all(CAPABILITIES.values())


# -- LiteLLM's price map ---------------------------------------------------------------------------


@pytest.fixture
def price_map(tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    def write(entries: dict[str, Any]) -> Path:
        path = tmp_path / "prices.json"
        path.write_text(json.dumps(entries), encoding="utf-8")
        return path

    return write


def entry(cost_in: float, cost_out: float, provider: str, **more: Any) -> dict[str, Any]:
    return {
        "input_cost_per_token": cost_in,
        "output_cost_per_token": cost_out,
        "litellm_provider": provider,
        "mode": "chat",
        **more,
    }


def price_after(catalog: Catalog, name: str) -> tuple[float, float, float | None]:
    price = catalog.get(name).price
    assert price is not None
    return (price.input_usd_per_mtok, price.output_usd_per_mtok, price.cached_input_usd_per_mtok)


def test_price_map_is_read_in_dollars_per_token(
    shipped: Catalog, price_map: Callable[[dict[str, Any]], Path]
) -> None:
    path = price_map(
        {"gpt-4o-2024-08-06": entry(2e-06, 8e-06, "openai", cache_read_input_token_cost=5e-07)}
    )
    catalog, report = shipped.read_prices(path)
    assert price_after(catalog, "gpt-4o-2024-08-06") == (2.0, 8.0, 0.5)
    assert report.matched == {"gpt-4o-2024-08-06": "gpt-4o-2024-08-06"}
    assert report.changed == ("gpt-4o-2024-08-06",)
    assert "deepseek-r1" in report.unmatched
    assert price_after(shipped, "gpt-4o-2024-08-06")[0] == 2.5


@pytest.mark.parametrize(
    ("key", "provider", "name"),
    [
        ("anthropic.claude-3-5-sonnet-20241022-v2:0", "bedrock", "claude-3-5-sonnet-20241022"),
        ("us.anthropic.claude-3-haiku-20240307-v1:0", "bedrock", "claude-3-haiku-20240307"),
        (
            "bedrock/us-east-1/meta.llama3-1-70b-instruct-v1:0",
            "bedrock",
            "llama-3.1-70b-instruct",
        ),
        ("vertex_ai/claude-3-opus@20240229", "vertex_ai", "claude-3-opus-20240229"),
        ("gemini/gemini-1.5-pro-002", "gemini", "gemini-1.5-pro-002"),
        ("azure/gpt-4o-mini-2024-07-18", "azure", "gpt-4o-mini-2024-07-18"),
        (
            "together_ai/meta-llama/Meta-Llama-3.1-8B-Instruct-Turbo",
            "together_ai",
            "llama-3.1-8b-instruct",
        ),
        (
            "fireworks_ai/accounts/fireworks/models/llama-v3p1-405b-instruct",
            "fireworks_ai",
            "llama-3.1-405b-instruct",
        ),
        ("deepinfra/Qwen/Qwen2.5-72B-Instruct", "deepinfra", "qwen2.5-72b-instruct"),
        ("mistral/open-mixtral-8x7b", "mistral", "mixtral-8x7b-instruct-v0.1"),
        ("groq/llama-3.3-70b-versatile", "groq", "llama-3.3-70b-instruct"),
        ("xai/grok-3-mini-beta", "xai", "grok-3-mini"),
        ("ft:gpt-4o-2024-08-06", "openai", None),
        ("somebody/no-such-model", "somebody", None),
    ],
)
def test_provider_spellings_find_their_model(
    shipped: Catalog,
    price_map: Callable[[dict[str, Any]], Path],
    key: str,
    provider: str,
    name: str | None,
) -> None:
    _, report = shipped.read_prices(price_map({key: entry(1e-06, 2e-06, provider)}))
    assert dict(report.matched) == ({} if name is None else {name: key})


def test_vendors_own_entry_wins_over_hosts_and_the_middle_host_speaks_for_open_weights(
    shipped: Catalog, price_map: Callable[[dict[str, Any]], Path]
) -> None:
    hosted = {
        f"{host}/meta-llama/Llama-3.1-70B-Instruct": entry(cost, cost, host)
        for host, cost in [("dear", 9e-06), ("middle", 3e-06), ("cheap", 1e-06)]
    }
    own = {
        "azure/deepseek-r1": entry(5e-06, 5e-06, "azure"),
        "deepseek/deepseek-r1": entry(1e-06, 2e-06, "deepseek"),
    }
    catalog, report = shipped.read_prices(price_map(hosted | own))
    assert price_after(catalog, "llama-3.1-70b-instruct")[0] == 3.0
    assert report.matched["deepseek-r1"] == "deepseek/deepseek-r1"


def test_price_set_by_the_user_stays(
    shipped: Catalog, price_map: Callable[[dict[str, Any]], Path]
) -> None:
    mine = Price(input_usd_per_mtok=0.5, output_usd_per_mtok=0.6, kind="user")
    path = price_map({"o3-mini": entry(1e-06, 4e-06, "openai")})
    catalog, report = shipped.with_prices({"o3-mini": mine}).read_prices(path)
    assert catalog.get("o3-mini").price == mine
    assert report.kept == ("o3-mini",)
    assert "o3-mini" not in report.unmatched


def test_entry_without_a_price_means_unknown_and_never_zero(
    shipped: Catalog, price_map: Callable[[dict[str, Any]], Path]
) -> None:
    path = price_map(
        {
            "sample_spec": {"input_cost_per_token": 1, "output_cost_per_token": 1},
            "o3-mini": {"litellm_provider": "openai", "mode": "chat", "max_input_tokens": 5},
            "deepseek/deepseek-r1": entry(0, 0, "deepseek"),
            "gpt-4o-2024-08-06": {**entry(1, 1, "openai"), "mode": "embedding"},
        }
    )
    catalog, report = prices_from_litellm(path, shipped)
    assert catalog == shipped
    assert not report.matched


@pytest.mark.parametrize("amount", [-1e-06, "free", True])
def test_nonsense_in_a_price_map_is_refused_with_its_entry(
    shipped: Catalog, price_map: Callable[[dict[str, Any]], Path], amount: Any
) -> None:
    path = price_map({"o3-mini": entry(amount, 1e-06, "openai")})
    with pytest.raises(CatalogError, match="entry 'o3-mini': input price"):
        shipped.read_prices(path)


def test_price_map_that_is_a_list_is_refused(shipped: Catalog, tmp_path: Path) -> None:
    path = tmp_path / "prices.json"
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(CatalogError, match="price map"):
        shipped.read_prices(path)
