from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from zerorouter.catalog import Catalog
from zerorouter.config import Config, PolicySettings, config_schema, load_config
from zerorouter.errors import ConfigError

Write = Callable[[str], Path]

FULL = """
version: 1
space: spaces/mine
policy: careful
policies:
  careful: {value_of_correct_usd: 0.05, value_of_second_usd: 0.0005, min_accuracy: 0.8}
  thrifty: {value_of_correct_usd: 1e-3, max_cost_usd: 0.01, max_latency_s: 20}
models:
  allow: ["gpt-4o*", "claude-*"]
  deny: ["*-mini-*"]
prices:
  gpt-4o-2024-08-06: {input_usd_per_mtok: 2, output_usd_per_mtok: 8.0}
"""


@pytest.fixture(autouse=True)
def nowhere_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ZEROROUTER_CONFIG", raising=False)
    monkeypatch.setenv("ZEROROUTER_HOME", str(tmp_path / "home"))


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def _write(text: str) -> Path:
        path = tmp_path / "zr.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return _write


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    message = str(caught.value)
    assert all(line.startswith(str(path)) for line in message.splitlines())
    return message.replace(f"{path}: ", "")


def test_without_a_file_the_defaults_hold() -> None:
    assert load_config() == Config()
    assert Config().policy == "balanced"
    assert Config().space is None


def test_without_a_file_neither_yaml_nor_pydantic_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from zerorouter.config import load_config; load_config();"
        "print([m for m in ('pydantic', 'yaml') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"ZEROROUTER_HOME": str(tmp_path), "PATH": ""},
    )
    assert done.stdout.strip() == "[]"


def test_whole_file_is_read(write: Write) -> None:
    path = write(FULL)
    config = load_config(path)
    assert config.path == path
    assert config.space == path.parent / "spaces" / "mine"
    assert config.policy == "careful"
    assert config.policies["careful"] == PolicySettings(
        value_of_correct_usd=0.05, value_of_second_usd=0.0005, min_accuracy=0.8
    )
    assert config.policies["thrifty"].value_of_correct_usd == 0.001
    assert config.allow == ("gpt-4o*", "claude-*")
    assert config.deny == ("*-mini-*",)
    price = config.prices["gpt-4o-2024-08-06"]
    assert (price.input_usd_per_mtok, price.output_usd_per_mtok, price.kind) == (2.0, 8.0, "user")


def test_file_of_the_environment_wins_over_the_one_in_the_state_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, write: Write
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "config.yaml").write_text("version: 1\npolicy: cost\n", encoding="utf-8")
    assert load_config().policy == "cost"
    monkeypatch.setenv("ZEROROUTER_CONFIG", str(write("version: 1\npolicy: quality\n")))
    assert load_config().policy == "quality"
    other = tmp_path / "other.yaml"
    other.write_text("version: 1\npolicy: latency\n", encoding="utf-8")
    assert load_config(other).policy == "latency"


def test_file_that_was_named_must_exist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert "cannot be read" in refusal(tmp_path / "none.yaml")
    monkeypatch.setenv("ZEROROUTER_CONFIG", str(tmp_path / "none.yaml"))
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config()


def test_what_is_written_out_is_read_back_the_same(write: Write) -> None:
    config = load_config(write(FULL))
    again = load_config(write(yaml.safe_dump(config.to_dict())))
    assert again == config


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("version: 1\npolices: {}", "polices: unknown key; did you mean 'policies'?"),
        ("version: 1\nmodels: {alow: [a]}", "models.alow: unknown key; did you mean 'allow'?"),
        (
            "version: 1\npolicies: {p: {value_of_correct_usd: 1, min_acuracy: 0.5}}",
            "policies.p.min_acuracy: unknown key; did you mean 'min_accuracy'?",
        ),
        (
            "version: 1\nprices: {m: {input_usd_per_mtok: 1, output: 2}}",
            "prices.m.output_usd_per_mtok: missing",
        ),
        (
            "version: 1\npolicies: {p: {value_of_correct_usd: -1}}",
            "policies.p.value_of_correct_usd: found -1; wanted greater than or equal to 0",
        ),
        (
            "version: 1\npolicies: {p: {value_of_correct_usd: 1, min_accuracy: 80}}",
            "policies.p.min_accuracy: found 80; wanted less than or equal to 1",
        ),
        (
            "version: 1\nprices: {m: {input_usd_per_mtok: .nan, output_usd_per_mtok: 1}}",
            "prices.m.input_usd_per_mtok: found nan; wanted a finite number",
        ),
        (
            "version: 1\nprices: {m: {input_usd_per_mtok: yes, output_usd_per_mtok: 1}}",
            "prices.m.input_usd_per_mtok: found True; wanted a number",
        ),
        ("version: 1\nmodels: {allow: []}", "models.allow: found []; wanted at least one entry"),
        ("version: 1\nmodels: gpt-4o", "models: found 'gpt-4o'; wanted keys and values"),
        ("version: 1\npolicies: {Fast One: {value_of_correct_usd: 1}}", "name 'Fast One'"),
        ("policy: cost", "version: missing; wanted 'version: 1'"),
        ("", "version: missing"),
        ("version: '1'", "version: found '1'; wanted 1"),
        ("version: 2", "version: found 2; wanted 1: the file is for a later ZeroRouter"),
        ("- version: 1", "found a list; wanted keys and values"),
        ("version: 1\nmodels: [a", "line 2, column 11: not valid YAML"),
        ("version: 1\npolicy: cost\npolicy: quality", "line 3, column 1: the key 'policy' stands"),
        ("version: 1\npolicy: !!python/name:os.system x", "not valid YAML"),
    ],
)
def test_mistake_is_named_by_file_key_and_remedy(write: Write, text: str, says: str) -> None:
    assert says in refusal(write(text))


def test_all_mistakes_are_reported_at_once(write: Write) -> None:
    message = refusal(write("version: 1\npolices: {}\nmodels: {denny: []}"))
    assert len(message.splitlines()) == 2


def test_value_of_a_misplaced_secret_is_never_shown(write: Write) -> None:
    message = refusal(write("version: 1\nopenai_secret: s3cr3t-value"))
    assert "s3cr3t" not in message
    assert "secrets have no place" in message


def test_prices_and_lists_apply_to_a_catalog(write: Write) -> None:
    models = load_config(write(FULL)).apply_to(Catalog.load())
    assert "gpt-4o-2024-08-06" in models
    assert not any("-mini-" in name for name in models.names)
    price = models.get("gpt-4o-2024-08-06").price
    assert price is not None
    assert price.input_usd_per_mtok == 2.0


def test_without_an_allow_list_the_default_pool_is_used_less_what_is_denied() -> None:
    catalog = Catalog.load()
    assert Config().apply_to(catalog) == catalog.pool()
    denied = Config(deny=("claude-*",)).apply_to(catalog)
    assert denied.names == tuple(n for n in catalog.pool().names if not n.startswith("claude-"))


def test_price_of_an_unknown_model_names_the_file_and_the_nearest_model(write: Write) -> None:
    price = "{input_usd_per_mtok: 1, output_usd_per_mtok: 1}"
    path = write(f"version: 1\nprices: {{gpt-4o-2024-08-60: {price}}}")
    with pytest.raises(ConfigError, match=r"prices: unknown model .* did you mean 'gpt-4o-2024-0"):
        load_config(path).apply_to(Catalog.load())


def test_schema_describes_every_key() -> None:
    schema = config_schema()
    assert set(schema["properties"]) == {
        "version",
        "space",
        "policy",
        "policies",
        "models",
        "prices",
        "upstreams",
        "gateway",
    }
    assert schema["additionalProperties"] is False


def test_prices_may_have_tiers_kinds_of_tokens_and_a_date(write: Write) -> None:
    config = load_config(
        write(
            """
version: 1
prices:
  o3-mini:
    input_usd_per_mtok: 1
    output_usd_per_mtok: 4
    reasoning_usd_per_mtok: 5
    cache_write_usd_per_mtok: 2
    tiers:
      - {above_input_tokens: 200000, input_usd_per_mtok: 2, output_usd_per_mtok: 8}
    date: 2026-11-22
"""
        )
    )
    price = config.prices["o3-mini"]
    assert (price.kind, price.source, price.date) == ("user", "zr.yaml", "2026-11-22")
    assert (price.reasoning_usd_per_mtok, price.cache_write_usd_per_mtok) == (5.0, 2.0)
    assert price.at(200_001).output_usd_per_mtok == 8.0
    assert config.to_dict()["prices"]["o3-mini"]["tiers"][0]["above_input_tokens"] == 200_000


@pytest.mark.parametrize("date", ["2026", "2026-11", "'2026-11-22'", None])
def test_a_price_is_as_old_as_it_says_or_as_its_file(write: Write, date: str | None) -> None:
    told = "" if date is None else f", date: {date}"
    text = "version: 1\nprices: {o3-mini: {input_usd_per_mtok: 1, output_usd_per_mtok: 4%s}}"
    found = load_config(write(text % told)).prices["o3-mini"].date
    assert found is not None
    assert date is None or found == date.strip("'")


@pytest.mark.parametrize(
    ("prices", "says"),
    [
        ("{input_usd_per_mtok: 1, output_usd_per_mtok: 4, date: soon}", "price.date: found 'soon'"),
        (
            "{input_usd_per_mtok: 1, output_usd_per_mtok: 4, "
            "tiers: [{above_input_tokens: 5, input_usd_per_mtok: 1, outputs: 2}]}",
            "prices.m.tiers.0.outputs: unknown key",
        ),
    ],
)
def test_wrong_prices_are_refused_by_key(write: Write, prices: str, says: str) -> None:
    assert says in refusal(write(f"version: 1\nprices: {{m: {prices}}}"))


def test_policies_may_have_a_confidence_an_objective_and_a_scalarisation(write: Write) -> None:
    config = load_config(
        write(
            """
version: 1
policies:
  sure: {value_of_correct_usd: 0, objective: cost, min_accuracy: 0.9, confidence: 0.95}
  even: {value_of_correct_usd: 1, scalarisation: chebyshev, max_p95_latency_s: 10}
"""
        )
    )
    sure, even = config.policies["sure"], config.policies["even"]
    assert (sure.objective, sure.confidence) == ("cost", 0.95)
    assert (even.scalarisation, even.max_p95_latency_s) == ("chebyshev", 10.0)
    shown = config.to_dict()["policies"]
    assert "scalarisation" not in shown["sure"]
    assert "confidence: found 1.0" in refusal(
        write("version: 1\npolicies: {p: {value_of_correct_usd: 0, confidence: 1.0}}")
    )
