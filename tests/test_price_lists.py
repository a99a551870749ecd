"""Price lists: what is read of LiteLLM's map beyond input and output, and what a user keeps."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from zerorouter.catalog import Catalog
from zerorouter.config import Config
from zerorouter.errors import CatalogError
from zerorouter.price_lists import (
    forget_prices,
    keep_prices,
    kept_path,
    kept_prices,
    prices_from_litellm,
    with_kept_prices,
)
from zerorouter.prices import Price, PriceTier
from zerorouter.router import Router

NAME = "gpt-4o-2024-08-06"
BASE = {
    "litellm_provider": "openai",
    "mode": "chat",
    "input_cost_per_token": 2e-06,
    "output_cost_per_token": 8e-06,
}


@pytest.fixture(autouse=True)
def own_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ZEROROUTER_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ZEROROUTER_CONFIG", raising=False)


def read(tmp_path: Path, entry: dict[str, Any], **options: Any) -> Price:
    path = tmp_path / "map.json"
    path.write_text(json.dumps({NAME: BASE | entry}), encoding="utf-8")
    price = prices_from_litellm(path, Catalog.load(), **options)[0].get(NAME).price
    assert price is not None
    return price


# -- LiteLLM's map ---------------------------------------------------------------------------------


def test_every_kind_of_token_is_read(tmp_path: Path) -> None:
    price = read(
        tmp_path,
        {
            "cache_read_input_token_cost": 5e-07,
            "cache_creation_input_token_cost": 2.5e-06,
            "output_cost_per_reasoning_token": 9e-06,
            "input_cost_per_audio_token": 4e-05,
        },
    )
    assert (price.cached_input_usd_per_mtok, price.cache_write_usd_per_mtok) == (0.5, 2.5)
    assert (price.reasoning_usd_per_mtok, price.audio_input_usd_per_mtok) == (9.0, 40.0)


def test_tiers_above_a_context_size_are_read_by_rising_limit(tmp_path: Path) -> None:
    price = read(
        tmp_path,
        {
            "cache_read_input_token_cost": 5e-07,
            "input_cost_per_token_above_272k_tokens": 8e-06,
            "output_cost_per_token_above_272k_tokens": 2e-05,
            "input_cost_per_token_above_128k_tokens": 4e-06,
            "cache_read_input_token_cost_above_128k_tokens": 1e-06,
            "input_cost_per_token_above_272k_tokens_priority": 9.0,
            "input_cost_per_image_above_128k_tokens": 9.0,
        },
    )
    assert price.tiers == (
        PriceTier(
            above_input_tokens=128_000,
            input_usd_per_mtok=4.0,
            output_usd_per_mtok=8.0,  # not told: the base price holds
            cached_input_usd_per_mtok=1.0,
        ),
        PriceTier(
            above_input_tokens=272_000,
            input_usd_per_mtok=8.0,
            output_usd_per_mtok=20.0,
            cached_input_usd_per_mtok=0.5,
        ),
    )


def test_tiered_pricing_with_ranges_is_read_also_without_a_base_price(tmp_path: Path) -> None:
    rows = [
        {"range": [32000, 128000], "input_cost_per_token": 5e-06, "output_cost_per_token": 1e-05},
        {"range": [0, 32000], "input_cost_per_token": 2e-06, "output_cost_per_token": 4e-06},
    ]
    path = tmp_path / "map.json"
    entry = {"litellm_provider": "openai", "mode": "chat", "tiered_pricing": rows}
    path.write_text(json.dumps({NAME: entry}), encoding="utf-8")
    price = prices_from_litellm(path, Catalog.load())[0].get(NAME).price
    assert price is not None
    assert (price.input_usd_per_mtok, price.output_usd_per_mtok) == (2.0, 4.0)
    assert [t.above_input_tokens for t in price.tiers] == [32_000]
    assert price.at(50_000).output_usd_per_mtok == 10.0


@pytest.mark.parametrize("rows", [[], "many", [{"input_cost_per_token": 1}], [{"range": []}], [5]])
def test_ranges_that_make_no_sense_leave_the_plain_price(tmp_path: Path, rows: Any) -> None:
    price = read(tmp_path, {"tiered_pricing": rows})
    assert (price.input_usd_per_mtok, price.tiers) == (2.0, ())


@pytest.mark.parametrize(
    "key", ["output_cost_per_token_above_200k_tokens", "output_cost_per_reasoning_token"]
)
@pytest.mark.parametrize("amount", [-1e-06, "free", True])
def test_nonsense_is_refused_with_entry_and_field(tmp_path: Path, key: str, amount: Any) -> None:
    with pytest.raises(CatalogError, match=rf"entry '{NAME}': (output|output_\w+) price: found"):
        read(tmp_path, {key: amount})


def test_every_price_has_its_source_and_its_date(tmp_path: Path) -> None:
    told = read(tmp_path, {}, date="2026-11-22")
    assert (told.source, told.date) == (f"map.json: {NAME}", "2026-11-22")
    read(tmp_path, {})
    os.utime(tmp_path / "map.json", (1_700_000_000, 1_700_000_000))
    dated = prices_from_litellm(tmp_path / "map.json", Catalog.load())[0].get(NAME).price
    assert dated is not None
    assert dated.date == "2023-11-14"


def test_a_change_of_a_tier_alone_is_a_changed_price(tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    path.write_text(json.dumps({NAME: BASE}), encoding="utf-8")
    before, _ = prices_from_litellm(path, Catalog.load())
    path.write_text(
        json.dumps({NAME: BASE | {"input_cost_per_token_above_200k_tokens": 4e-06}}),
        encoding="utf-8",
    )
    assert prices_from_litellm(path, before)[1].changed == (NAME,)
    path.write_text(json.dumps({NAME: BASE}), encoding="utf-8")
    assert prices_from_litellm(path, before)[1].changed == ()


# -- the list that is kept -------------------------------------------------------------------------

MINE = Price(
    input_usd_per_mtok=1.5,
    output_usd_per_mtok=2.5,
    tiers=(PriceTier(above_input_tokens=5, input_usd_per_mtok=9.0, output_usd_per_mtok=9.0),),
    source="map.json: x",
    date="2026-11-22",
)


def test_prices_are_kept_read_again_and_forgotten() -> None:
    assert kept_prices() == {}
    assert keep_prices({NAME: MINE}) == kept_path()
    assert kept_prices() == {NAME: MINE}
    assert with_kept_prices(Catalog.load()).get(NAME).price == MINE
    keep_prices({"o3-mini": MINE})
    assert set(kept_prices()) == {"o3-mini"}  # in place of those kept before
    assert forget_prices()
    assert not forget_prices()
    assert with_kept_prices(Catalog.load()) == Catalog.load()


def test_models_that_left_the_catalog_are_passed_over() -> None:
    keep_prices({"gone": MINE})
    assert with_kept_prices(Catalog.load()) == Catalog.load()


def test_the_configuration_wins_over_kept_prices_and_they_over_the_catalog() -> None:
    keep_prices({NAME: MINE, "o3-mini": MINE})
    own = Price(input_usd_per_mtok=0.0, output_usd_per_mtok=0.1, kind="user")
    catalog = Router.from_config(Config(prices={NAME: own})).catalog
    assert catalog.get(NAME).price == own
    assert catalog.get("o3-mini").price == MINE


def test_a_list_that_cannot_be_written_leaves_the_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_prices({NAME: MINE})

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CatalogError, match="cannot be kept: No space left"):
        keep_prices({"o3-mini": MINE})
    assert set(kept_prices()) == {NAME}
    assert [p.name for p in kept_path().parent.iterdir()] == ["prices.json"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not valid JSON"),
        ("[]", "not a list of kept prices"),
        ('{"format": "zerorouter-prices", "version": 9}', "version 9"),
        ('{"format": "zerorouter-prices", "version": 1, "prices": []}', "an object of prices"),
        (
            '{"format": "zerorouter-prices", "version": 1, "prices": {"m": {}}}',
            "price.input_usd_per_mtok: missing",
        ),
    ],
)
def test_a_damaged_list_is_named_with_the_ways_out(text: str, says: str) -> None:
    kept_path().parent.mkdir(parents=True)
    kept_path().write_text(text, encoding="utf-8")
    with pytest.raises(CatalogError) as caught:
        kept_prices()
    message = str(caught.value)
    assert says in message
    assert "--forget-prices" in message
