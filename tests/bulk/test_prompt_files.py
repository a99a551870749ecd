from __future__ import annotations

import json

import numpy as np
import pytest

from zerorouter.bulk.prompts import BLOCK, PromptFile
from zerorouter.errors import DataError, InputError, PromptError


def write(tmp_path, *lines, name="prompts.jsonl"):
    path = tmp_path / name
    text = "\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines)
    path.write_text(text, encoding="utf-8")
    return PromptFile(path)


def rows(file, positions=None):
    return [row for block in file.blocks(positions) for row in block]


def test_rows_come_in_order_and_in_blocks(tmp_path):
    n = 2 * BLOCK + 5
    file = write(tmp_path, *({"prompt_id": i, "text": f"t{i}"} for i in range(n)))
    blocks = list(file.blocks())
    assert [len(b) for b in blocks] == [BLOCK, BLOCK, 5]
    assert [row.prompt_id for block in blocks for row in block] == [str(i) for i in range(n)]
    assert file.scan().n_prompts == n


def test_only_the_rows_asked_for_are_read(tmp_path):
    file = write(tmp_path, *({"prompt_id": i, "text": "x"} for i in range(50)))
    wanted = np.array([0, 7, 8, 49])
    assert [row.position for row in rows(file, wanted)] == wanted.tolist()


def test_blank_lines_a_mark_and_line_separators_are_no_rows(tmp_path):
    path = tmp_path / "p.jsonl"
    lines = [
        '{"prompt_id": "a", "text": "one\u2028two"}',
        "",
        "  ",
        '{"prompt_id": "b", "text": "x"}',
    ]
    path.write_bytes(b"\xef\xbb\xbf" + "\n".join(lines).encode())
    assert [row.where for row in rows(PromptFile(path))] == ["line 1", "line 4"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{broken", "line 2.*not JSON"),
        ("[1, 2]", "line 2.*a JSON list"),
        ('{"text": "no id"}', "line 2.*'prompt_id'.*nothing"),
        ('{"prompt_id": " ", "text": "x"}', "line 2.*'prompt_id'"),
        ('{"prompt_id": true, "text": "x"}', "line 2.*True"),
        ('{"prompt_id": "b"}', "line 2.*'text' or 'messages'"),
        ('{"prompt_id": "a", "text": "again"}', "line 2.*'a', which line 1 has as well"),
    ],
)
def test_a_row_that_is_wrong_is_named(tmp_path, line, told):
    file = write(tmp_path, {"prompt_id": "a", "text": "x"}, line)
    with pytest.raises(DataError, match=told):
        file.scan()


@pytest.mark.parametrize("weight", [-1, "2", True, float("nan")])
def test_a_weight_is_a_number_from_zero_up(tmp_path, weight):
    file = write(tmp_path, {"prompt_id": "a", "text": "x", "weight": weight})
    with pytest.raises(InputError, match="line 1: the weight"):
        file.scan()


def test_an_empty_file_and_a_missing_one_are_told_apart(tmp_path):
    with pytest.raises(DataError, match="no row"):
        write(tmp_path, "").scan()
    with pytest.raises(DataError, match="nothing there"):
        PromptFile(tmp_path / "absent.jsonl")
    with pytest.raises(DataError, match="a folder"):
        PromptFile(tmp_path)
    (tmp_path / "prompts.txt").write_text("x")
    with pytest.raises(DataError, match=r"the kind \.txt"):
        PromptFile(tmp_path / "prompts.txt")


def test_messages_and_tools_make_the_request(tmp_path):
    photo = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, photo]}]
    file = write(
        tmp_path,
        {"prompt_id": "a", "messages": messages},
        {"prompt_id": "b", "text": "x", "tools": [{"type": "function"}]},
        {"prompt_id": "c", "text": "x", "response_format": {"type": "json_object"}},
    )
    needed = [file.prompt(row).requirements for row in rows(file)]
    assert needed == [("vision",), ("tools",), ("json",)]


def test_a_prompt_that_cannot_be_read_names_its_row(tmp_path):
    file = write(tmp_path, {"prompt_id": "a", "text": "x"}, {"prompt_id": "b", "text": "  "})
    with pytest.raises(PromptError, match="line 2: the prompt is empty"):
        file.prompt(rows(file)[1])


def test_parquet_is_read_like_jsonl(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow.parquet import write_table

    message = [{"role": "user", "content": "How are you?"}]
    table = pa.table(
        {
            "prompt_id": [1, 2, 3],
            "text": ["one", None, "three"],
            "messages": [None, json.dumps(message), None],
            "other": [0, 0, 0],
        }
    )
    write_table(table, tmp_path / "p.parquet")
    file = PromptFile(tmp_path / "p.parquet")
    assert file.scan().n_prompts == 3
    found = rows(file)
    assert [row.prompt_id for row in found] == ["1", "2", "3"]
    assert [row.where for row in found] == ["row 1", "row 2", "row 3"]
    assert file.prompt(found[1]).text == "How are you?"
    assert set(found[0].values) == {"prompt_id", "text", "messages"}


def test_parquet_messages_may_be_nested(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow.parquet import write_table

    table = pa.table(
        {"prompt_id": ["a"], "messages": [[{"role": "user", "content": "How are you?"}]]}
    )
    write_table(table, tmp_path / "p.parquet")
    file = PromptFile(tmp_path / "p.parquet")
    assert file.prompt(rows(file)[0]).text == "How are you?"


def test_a_file_that_only_looks_like_parquet_is_refused(tmp_path):
    pytest.importorskip("pyarrow")
    path = tmp_path / "p.parquet"
    path.write_bytes(b"PAR1 but no more")
    with pytest.raises(DataError, match="cannot read"):
        PromptFile(path).scan()
