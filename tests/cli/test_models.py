from __future__ import annotations

import json
from dataclasses import replace

import pytest

from cli.running import run
from simulated_records import MODELS, fitted_folder


def test_the_list_shows_the_pool_from_strongest_to_weakest_with_error_bars():
    result = run("models", "--space", fitted_folder(), "--json")
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    assert set(MODELS) <= set(rows)
    assert all(len(rows[m]["ability"]) == len(rows[m]["ability_sd"]) == 3 for m in MODELS)
    table = run("models", "--space", fitted_folder()).stdout.splitlines()
    simulated = [line.split()[0] for line in table if line.startswith("sim-")]
    general = [rows[name]["ability"][0] for name in simulated]
    assert general == sorted(general, reverse=True)
    assert all("±" in line for line in table if line.startswith("sim-"))


def test_all_adds_the_models_that_were_not_onboarded():
    pool, everything = (json.loads(run("models", "--json", *a).stdout) for a in ([], ["--all"]))
    assert len(everything) > len(pool) > 40
    known = {row["name"] for row in everything if row["ability"] is not None}
    assert known >= {row["name"] for row in pool}
    assert "not yet" in run("models", "--all", "--space", fitted_folder()).stdout


@pytest.mark.parametrize("columns", [80, 100, 140, 200])
def test_narrow_terminals_lose_whole_columns_and_never_digits(columns):
    head, *rows = run("models", COLUMNS=str(columns)).stdout.splitlines()[:-1]
    assert max(map(len, [head, *rows])) <= columns
    assert "…" not in "".join(rows)
    for heading in ("model", "ability, 90%", "$/M in", "$/M out"):
        assert heading in head
    assert ("released" in head) == (columns >= 100)
    assert ("can" in head.split()) == (columns >= 200)


def test_numbers_stand_in_line():
    head, *rows = run("models", COLUMNS="80").stdout.splitlines()[:-1]
    end = head.index("$/M out") + len("$/M out")
    assert {row[end - 1].strip() != "" and row[end : end + 2].strip() == "" for row in rows} == {
        True
    }


def test_one_model_is_shown_with_its_card_and_abilities():
    result = run("models", "o3-mini")
    for word in ("vendor", "openai", "context_tokens", "ability, general", "±"):
        assert word in result.stdout
    assert json.loads(run("models", "o3-mini", "--json").stdout)["name"] == "o3-mini"


def test_a_model_that_a_space_does_not_know_is_shown_without_an_ability():
    space = ("--space", fitted_folder())
    rows = json.loads(run("models", "--all", "--json", *space).stdout)
    name = next(row["name"] for row in rows if row["ability"] is None)
    assert "not been onboarded" in run("models", name, *space).stdout


def test_an_unknown_model_is_refused_with_the_nearest_name():
    result = run("models", "o3-mni")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "did you mean 'o3-mini'?" in result.stderr


def price_map(folder, **more):
    prices = folder / "prices.json"
    entry = {"input_cost_per_token": 7e-6, "output_cost_per_token": 9e-6, "mode": "chat"}
    prices.write_text(json.dumps({"o3-mini": entry | more}))
    return prices


def shown(*args, **env):
    listed = run("models", *args, **env).stdout.splitlines()
    return next(line for line in listed if line.startswith("o3-mini ")).split()


def test_prices_of_a_price_map_are_shown_and_counted(tmp_path):
    home = str(tmp_path / "home")
    result = run("models", "--prices-from", price_map(tmp_path), ZEROROUTER_HOME=home)
    assert "1 of " in result.stderr
    row = next(line for line in result.stdout.splitlines() if line.startswith("o3-mini "))
    assert {"7", "9"} <= set(row.split())
    missing = run("models", "--prices-from", tmp_path / "none.json", ZEROROUTER_HOME=home)
    assert missing.exit_code == 1


def test_prices_that_were_read_are_kept_until_they_are_forgotten(tmp_path):
    home = str(tmp_path / "home")
    before = shown(ZEROROUTER_HOME=home)
    run("models", "--prices-from", price_map(tmp_path), ZEROROUTER_HOME=home)
    assert {"7", "9"} <= set(shown(ZEROROUTER_HOME=home))
    told = run("route", "What is 2 + 3?", "--models", "o3-mini", "--json", ZEROROUTER_HOME=home)
    fresh = run("route", "What is 2 + 3?", "--models", "o3-mini", "--json")
    assert json.loads(told.stdout)["cost_usd"] > json.loads(fresh.stdout)["cost_usd"]
    assert "dropped" in run("models", "--forget-prices", ZEROROUTER_HOME=home).stderr
    assert shown(ZEROROUTER_HOME=home) == before


def test_prices_of_the_configuration_win_over_those_that_are_kept(tmp_path):
    config = tmp_path / "zr.yaml"
    config.write_text(
        "version: 1\nprices:\n  o3-mini: {input_usd_per_mtok: 3, output_usd_per_mtok: 5}\n"
    )
    result = run(
        *("models", "o3-mini", "--json", "--config", config),
        *("--prices-from", price_map(tmp_path)),
        ZEROROUTER_HOME=str(tmp_path / "home"),
    )
    price = json.loads(result.stdout)["price"]
    assert (price["input_usd_per_mtok"], price["kind"], price["source"]) == (3.0, "user", "zr.yaml")
    assert price["date"]


def test_a_price_is_shown_with_its_tiers_source_and_date(tmp_path):
    prices = price_map(tmp_path, input_cost_per_token_above_200k_tokens=2e-5)
    home = str(tmp_path / "home")
    told = run("models", "o3-mini", "--prices-from", prices, ZEROROUTER_HOME=home).stdout
    for word in (
        "above 200,000 input tokens: input_usd_per_mtok 20.0",
        "source prices.json",
        "date",
    ):
        assert word in told


def test_a_newcomer_is_listed_with_its_error_bar_and_on_probation(tmp_path):
    home = {"ZEROROUTER_HOME": str(tmp_path)}
    priced = ("--price-in", "1", "--price-out", "2")
    assert run("onboard", "newcomer", *priced, **home).exit_code == 0
    rows = {row["name"]: row for row in json.loads(run("models", "--json", **home).stdout)}
    assert rows["newcomer"]["probation"]
    assert not rows["o3-mini"]["probation"]
    assert rows["newcomer"]["ability_sd"][0] > 2 * rows["o3-mini"]["ability_sd"][0]
    table = run("models", **home, COLUMNS="140").stdout.splitlines()
    (line,) = (line for line in table if line.startswith("newcomer "))
    assert "±" in line
    assert "yes" in line.split()
    assert "lower bound" in run("models", "newcomer", **home).stdout
    assert "probation" not in run("models", COLUMNS="140").stdout


def test_a_model_that_a_gateway_found_changed_is_flagged(tmp_path):
    learning = pytest.importorskip("zerorouter.learning")
    pytest.importorskip("orjson")
    from zerorouter.gateway.learning.versions import Published, Versions
    from zerorouter.space import LatentSpace

    space = LatentSpace.load()
    name = "gpt-4o-2024-08-06"
    ground = learning.Ground(space)
    drift = learning.Drift(direction="worse", at_s=1.0, n_scores=40)
    known = replace(ground.model(name), drift=drift)
    state = replace(ground.start(), version=1, models={name: known})
    Versions(tmp_path / "gateway" / "learning").publish(
        Published(state=state, at_s=1.0, cursors={})
    )
    (told,) = [json.loads(run("models", name, "--json", ZEROROUTER_HOME=str(tmp_path)).stdout)]
    assert told["drift"] == "worse"
    shown = run("models", ZEROROUTER_HOME=str(tmp_path), COLUMNS="100").stdout
    assert f"{name} answers worse than it did" in shown
    other = run("models", "gpt-4o-mini-2024-07-18", "--json", ZEROROUTER_HOME=str(tmp_path))
    assert json.loads(other.stdout)["drift"] is None
