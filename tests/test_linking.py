from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import pytest

from zerorouter.catalog import Catalog
from zerorouter.errors import CorruptArtifactError, NewerArtifactError
from zerorouter.linking import (
    AliasTable,
    Respondent,
    load_aliases,
    normalise_name,
    read_aliases,
    respondent_cards,
)

RECORDS = (
    "mmlu-pro",
    "zeroeval",
    "reasoning-gym",
    "cruxeval",
    "alpaca-eval",
    "bfcl",
    "routerbench-subset",
)


@pytest.fixture(scope="module")
def table() -> AliasTable:
    return load_aliases()


@pytest.mark.parametrize(
    ("dataset", "name", "wanted"),
    [
        ("mmlu-pro", "Meta-Llama-3_1-8B-Instruct", "llama-3.1-8b-instruct"),
        ("zeroeval", "Meta-Llama-3.1-8B-Instruct", "llama-3.1-8b-instruct"),
        ("mmlu-pro", "c4ai-command-r-v01", "command-r-03-2024"),
        ("zeroeval", "command-r", "command-r-03-2024"),
        ("reasoning-gym", "anthropic_claude-3.5-sonnet", "claude-3-5-sonnet-20241022"),
        ("zeroeval", "claude-3-5-sonnet-20241022", "claude-3-5-sonnet-20241022"),
        ("cruxeval", "gpt-4o+cot", "gpt-4o-2024-05-13"),
        ("cruxeval", "gpt-4o", "gpt-4o-2024-05-13#direct"),
        ("cruxeval", "codellama-13b", "codellama-13b#direct"),
        ("cruxeval", "mixtral-8x7b", "mixtral-8x7b-v0.1#direct"),
        ("bfcl", "gpt-4o-2024-05-13-FC", "gpt-4o-2024-05-13#fc"),
        ("bfcl", "gpt-4o-2024-05-13", "gpt-4o-2024-05-13#prompt"),
        ("bfcl", "mistral-large-2407-FC-Any", "mistral-large-2407#fc-any"),
        ("alpaca-eval", "gpt4_0613_concise", "gpt-4-0613#concise"),
    ],
)
def test_names_find_their_respondent(
    table: AliasTable, dataset: str, name: str, wanted: str
) -> None:
    assert table(dataset, name) == wanted


def test_different_versions_are_different_respondents(table: AliasTable) -> None:
    assert table("zeroeval", "gemini-1.5-pro") != table("mmlu-pro", "gemini-1.5-pro-002")
    assert table("zeroeval", "gpt-4o-2024-05-13") != table("zeroeval", "gpt-4o-2024-08-06")
    assert table("alpaca-eval", "claude-instant-1.2") != table(
        "routerbench-subset", "claude-instant-v1"
    )


def test_no_two_names_of_a_data_set_are_one_respondent(table: AliasTable) -> None:
    for dataset in RECORDS:
        ids = Counter(table(dataset, name) for name in table.names(dataset))
        assert not [i for i, n in ids.items() if n > 1], dataset


def test_variant_has_the_plainly_asked_model_for_a_parent(table: AliasTable) -> None:
    host = table.canonical("zeroeval", "Meta-Llama-3.1-405B-Instruct@hyperbolic")
    assert host.id == "llama-3.1-405b-instruct#host-hyperbolic"
    assert host.variant_kind == "host"
    assert host.model == host.parent == "llama-3.1-405b-instruct"
    plain = table.canonical("zeroeval", "Llama-3.1-405B-Inst@sambanova")
    assert plain == Respondent(id="llama-3.1-405b-instruct", model="llama-3.1-405b-instruct")


def test_every_row_that_is_not_obvious_has_a_note(table: AliasTable) -> None:
    assert "before the release" in table.note("mmlu-pro", "DeepSeek-Coder-V2")
    assert table.note("cruxeval", "gpt-4o")
    assert table.note("mmlu-pro", "jamba-1.5-large") == ""


def test_every_model_of_the_default_pool_is_a_respondent_asked_plainly(table: AliasTable) -> None:
    plain = {r.id for r in table.respondents() if not r.variant}
    assert set(Catalog.load().pool().names) <= plain


def test_every_pool_model_has_correctness_records_of_its_own(table: AliasTable) -> None:
    calibrating = {table(d, n) for d in RECORDS[:4] for n in table.names(d)}
    assert set(Catalog.load().pool().names) <= calibrating


def test_data_sets_are_linked_by_common_respondents(table: AliasTable) -> None:
    ids = {d: {table(d, n) for n in table.names(d)} for d in RECORDS}
    assert len(ids["mmlu-pro"] & ids["zeroeval"]) == 6
    assert ids["zeroeval"] & ids["reasoning-gym"] == {"claude-3-5-sonnet-20241022"}
    assert len(ids["zeroeval"] & ids["cruxeval"]) == 3


def test_unknown_name_stands_for_itself_in_house_spelling(table: AliasTable) -> None:
    assert table("my-logs", "acme/My_Model 7B") == "my-model-7b"
    assert table("mmlu-pro", "Unheard-Of-9B") == "unheard-of-9b"


def test_known_model_is_recognised_in_an_unknown_data_set(table: AliasTable) -> None:
    assert table("my-logs", "openai/gpt-4o-2024-08-06") == "gpt-4o-2024-08-06"
    assert table("my-logs", "meta-llama/Meta-Llama-3.1-8B-Instruct") == "llama-3.1-8b-instruct"
    assert table("my-logs", "open-mixtral-8x7b") == "mixtral-8x7b-instruct-v0.1"


def test_published_score_ids_lead_to_catalog_names(table: AliasTable) -> None:
    assert table("catalog", "gemini-1.5-pro") == "gemini-1.5-pro-002"
    assert table("catalog", "qwen-2.5-72b-instruct") == "qwen2.5-72b-instruct"


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("Meta-Llama-3_1-8B-Instruct", "llama-3.1-8b-instruct"),
        ("meta-llama/Meta-Llama-3.1-8B-Instruct", "llama-3.1-8b-instruct"),
        ("qwen_qwq-32b", "qwq-32b"),
        ("claude-3-opus@20240229", "claude-3-opus-20240229"),
        ("qwen-2.5-7b-instruct", "qwen2.5-7b-instruct"),
        ("qwen-14b-chat", "qwen-14b-chat"),
        (" My Model ", "my-model"),
    ],
)
def test_names_are_normalised(name: str, wanted: str) -> None:
    assert normalise_name(name) == wanted


def test_normalising_twice_changes_nothing(table: AliasTable) -> None:
    for dataset in RECORDS:
        for name in table.names(dataset):
            once = normalise_name(name)
            assert normalise_name(once) == once


def test_every_respondent_has_a_card_and_a_variant_has_its_models(table: AliasTable) -> None:
    cards = respondent_cards()
    assert set(cards) == {r.id for r in table.respondents()}
    direct, plain = cards["gpt-4o-2024-05-13#direct"], cards["gpt-4o-2024-05-13"]
    assert (direct.id, direct.model) == ("gpt-4o-2024-05-13#direct", "gpt-4o-2024-05-13")
    assert (direct.family, direct.released) == (plain.family, plain.released)


def test_cards_tell_base_and_thinking_models() -> None:
    cards = respondent_cards()
    assert cards["llama-2-7b"].is_base
    assert cards["codellama-7b#direct"].is_base
    assert not cards["llama-3.1-8b-instruct"].is_base
    assert cards["o1-mini-2024-09-12"].reasoning
    assert not any(c.is_base for i, c in cards.items() if i in Catalog.load())


def test_unknown_facts_stay_unknown(table: AliasTable) -> None:
    card = respondent_cards()["jina-chat"]
    assert card.released is None
    assert card.params_b is None
    assert card.input_usd_per_mtok is None
    assert table.card("nobody") is None


def test_damaged_or_newer_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "aliases.json"
    for text, error in [
        ("{", CorruptArtifactError),
        ("[]", CorruptArtifactError),
        ('{"format": "zerorouter-aliases", "version": 1}', CorruptArtifactError),
        ('{"format": "zerorouter-aliases", "version": 2}', NewerArtifactError),
    ]:
        path.write_text(text, encoding="utf-8")
        with pytest.raises(error, match=r"aliases\.json"):
            read_aliases(path)


def test_table_written_by_hand_is_read(tmp_path: Path) -> None:
    path = tmp_path / "aliases.json"
    rows = {
        "format": "zerorouter-aliases",
        "version": 1,
        "cards": [{"model": "m", "family": "f", "params_b": 7}],
        "aliases": {"mine": {"M (FC)": "m#fc"}},
        "notes": {},
        "synonyms": {"em": "m"},
    }
    path.write_text(json.dumps(rows), encoding="utf-8")
    table = read_aliases(path)
    assert table("mine", "M (FC)") == "m#fc"
    assert table("mine", "EM") == "m"
    card = table.card("m#fc")
    assert card is not None
    assert card.params_b == 7


@pytest.mark.data
def test_table_covers_every_respondent_of_the_records_and_no_other(
    table: AliasTable, records_dir: Path
) -> None:
    for dataset in RECORDS:
        with (records_dir / dataset / "models.csv").open(encoding="utf-8", newline="") as lines:
            names = {row["model"] for row in csv.DictReader(lines)}
        assert set(table.names(dataset)) == names, dataset


@pytest.mark.data
def test_cards_repeat_what_the_records_say(table: AliasTable, records_dir: Path) -> None:
    cards = respondent_cards()
    for dataset in ("mmlu-pro", "zeroeval", "reasoning-gym"):
        with (records_dir / dataset / "models.csv").open(encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines):
                card = cards[table(dataset, row["model"])]
                assert (card.family, card.released) == (row["family"], row["released"])
                assert card.input_usd_per_mtok == float(row["input_usd_per_mtok"])
                if row["params_b"]:
                    assert card.params_b == float(row["params_b"])
