"""Encoders: the same words give the same vector, however they come, or a clear refusal."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zerorouter
from zerorouter.errors import ArtifactError, CorruptArtifactError, NewerArtifactError
from zerorouter.paths import _user_data_dir, home_dir
from zerorouter.predict.encoders import (
    Encoder,
    MiniLMEncoder,
    StaticEncoder,
    WordPieces,
    minilm_dir,
    pool_windows,
    reference_tokenizer,
)

ASSETS = Path(zerorouter.__file__).parent / "assets" / "encoder"
SENTENCES = (
    "How many kites can four children fly with ninety metres of string?",
    "Tie the kite's string to the railing before you let go of it.",
    "def longest(strings): return max(strings, key=len)",
    "Der Drachen über dem Süden der Bucht – größer als je!",
    "风筝在海湾上空 🪁 naïve café",
    "UPPER lower 1,234.50 $x^2$ a_b",
)


@pytest.fixture(scope="module")
def encoder() -> StaticEncoder:
    return StaticEncoder.load()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ASSETS, tmp_path / "encoder"))


# --- word pieces -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reference(encoder: StaticEncoder):  # type: ignore[no-untyped-def]
    vocabulary = encoder.words.vocabulary
    tokenizer = reference_tokenizer({word: i for i, word in enumerate(vocabulary)})
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize(
    "text",
    [
        *SENTENCES,
        "",
        " \t\r\n ",
        "[CLS] [MASK] ##ing [UNK]",
        "bell\x07 form\x0cfeed del\x7f tab\tnul\0end",
        "unit\x1fseparator vertical\x0btab next\x85line",
        "non\u00a0breaking ideographic\u3000blank zero\u200bwidth",
        "e\u0301 \u0301 a\u0301\u0327",
        "ΟΔΟΣ ΟΔΟΣ. İstanbul ﬁne Ⅷ",
        "k" * 100 + " " + "k" * 101 + " " + "é" * 101,
        "don’t “quote” — 5€ x→y",
        "a\ufffdb",
    ],
)
def test_word_pieces_are_those_of_the_reference_implementation(
    text: str,
    encoder: StaticEncoder,
    reference,  # type: ignore[no-untyped-def]
) -> None:
    assert encoder.words.ids(text) == reference(text)


def test_every_letter_and_mark_that_is_written_here_is_written_as_by_the_reference(
    encoder: StaticEncoder,
    reference,  # type: ignore[no-untyped-def]
) -> None:
    known = [chr(code) for code in (*range(0xA0, 0x530), *range(0x1E00, 0x2C00))]
    wrong = [
        f"U+{ord(char):04X}"
        for char in known
        if (ids := encoder.words.ids(text := f"{char} A{char}b {char}\u0301{char} 7{char}"))
        != reference(text)
        or not ids
    ]
    assert not wrong


@given(
    st.text(
        alphabet=st.one_of(
            st.sampled_from("abcxyzABCXYZ019 \t\n\r.,;()[]{}'\"-_#$%\\/\x00\x0c\x1c\x7f"),
            st.sampled_from("éüßΣσςİıñ中文カ한\u0301\u200b\u00a0\u3000\u2028–—“”’→🪁"),
            st.characters(exclude_categories=["Cs"]),
        ),
        max_size=80,
    )
)
def test_word_pieces_agree_with_the_reference_on_any_text(
    encoder: StaticEncoder,
    reference,  # type: ignore[no-untyped-def]
    text: str,
) -> None:
    assert encoder.words.ids(text) == reference(text)


PARTS = st.lists(
    st.one_of(
        st.text(alphabet="abcxyzABC019 \t\n\r.,;()[]{}'\"-_#$%\\/~", max_size=30),
        st.sampled_from(["", "kiteboarders unbelievably", "zqx9 q7zz", "don't", "k" * 120, "a\0b"]),
        st.text(max_size=10),
    ),
    min_size=1,
    max_size=6,
)


@given(PARTS)
def test_parts_of_a_text_have_their_own_pieces(encoder: StaticEncoder, parts: list[str]) -> None:
    found = encoder.words.ids_of_parts(parts)
    plain = all(re.fullmatch(r"[\t\n\r -~]*", part) for part in parts)
    assert (found is not None) == plain
    if found is None:
        return
    alone = [encoder.words.ids(part) for part in parts]
    assert found.ids.tolist() == list(chain.from_iterable(alone))
    assert found.ids.tolist() == encoder.words.ids("\n".join(parts))
    assert found.ends == [sum(map(len, alone[: i + 1])) for i in range(len(parts))]
    assert found.n_words == len(alone[0]) - int(encoder.is_wordpiece[alone[0]].sum())


def test_many_unknown_words_are_split_in_linear_time(encoder: StaticEncoder) -> None:
    found = encoder.words.ids_of_parts(["zqxzqx " * 50_000, "the"])
    assert found is not None
    assert len(found.ids) == found.ends[1] == found.ends[0] + 1
    assert found.n_words == 50_000


def test_a_long_run_without_blanks_is_split_in_linear_time(encoder: StaticEncoder) -> None:
    assert len(encoder.words.ids("x;" * 50_000)) == 100_000
    assert len(encoder.words.ids("é;" * 50_000)) == 100_000


def test_the_memory_of_split_words_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zerorouter.predict.encoders._CACHED_WORDS", 10)
    words = WordPieces(["[UNK]", "a", "##a", "##b"])
    for n in range(2, 60):
        assert len(words.ids("a" + "b" * n)) == n + 1
        assert len(words._split) <= 10


def test_lone_surrogates_are_passed_over(encoder: StaticEncoder) -> None:
    assert encoder.words.ids("kites \ud83d over\udc00board") == encoder.words.ids(
        "kites \ufffd over\ufffdboard"
    )


def test_words_that_cannot_be_split_are_unknown() -> None:
    words = WordPieces(["[UNK]", "a", "##b"])
    assert words.ids("ab abc ba") == [1, 2, 0, 0]


def test_a_vocabulary_without_the_unknown_piece_is_refused() -> None:
    with pytest.raises(CorruptArtifactError, match="UNK"):
        WordPieces(["a", "b"])


# --- the static encoder ------------------------------------------------------------------------


def test_the_packaged_encoder_has_a_name_and_fits_its_vocabulary(encoder: StaticEncoder) -> None:
    assert encoder.name.startswith("static-")
    assert encoder.table.shape == (len(encoder.words), encoder.dim)
    assert encoder.log_frequency.shape == encoder.is_wordpiece.shape == (len(encoder.words),)
    assert np.isfinite(encoder.log_frequency).all()
    assert (encoder.log_frequency < 0).all()


def test_the_packaged_encoder_stays_small() -> None:
    assert sum(file.stat().st_size for file in ASSETS.iterdir()) < 13_000_000


def test_the_provenance_names_source_and_licence(encoder: StaticEncoder) -> None:
    assert encoder.provenance["licence"] == "Apache-2.0"
    assert {"weights_sha256", "corpus_sha256", "settings", "made"} <= set(encoder.provenance)


def test_common_pieces_are_more_frequent_than_rare_ones(encoder: StaticEncoder) -> None:
    common, rare = encoder.token_ids("the")[0], encoder.token_ids("kite")[0]
    assert encoder.log_frequency[common] > encoder.log_frequency[rare]


def test_pieces_that_continue_a_word_are_marked(encoder: StaticEncoder) -> None:
    ids = encoder.token_ids("kiteboarders")
    assert encoder.is_wordpiece[ids].tolist() == [False] + [True] * (len(ids) - 1)


def test_vectors_are_unit_vectors_of_the_mean_of_dequantised_rows(encoder: StaticEncoder) -> None:
    for text in (*SENTENCES, "kites over the bay; " * 200):
        ids = encoder.token_ids(text)
        mean = (encoder.table[ids].astype(np.float64) * encoder.scale).mean(axis=0)
        wanted = mean / np.linalg.norm(mean)
        np.testing.assert_allclose(encoder.embed(ids), wanted, atol=1e-6)
        assert encoder.embed(ids).dtype == np.float32


def test_a_text_without_word_pieces_is_the_zero_vector(encoder: StaticEncoder) -> None:
    nothing = encoder.encode(["", " \n", SENTENCES[0]])
    assert not nothing[:2].any()
    assert nothing[2].any()
    assert not encoder.embed(encoder.token_ids("")).any()


def test_no_texts_are_no_rows(encoder: StaticEncoder) -> None:
    assert encoder.encode([]).shape == (0, encoder.dim)
    assert encoder.token_ids_batch([]) == []


@given(st.lists(st.one_of(st.text(max_size=60), st.sampled_from(SENTENCES)), max_size=6))
def test_a_batch_is_its_texts_one_by_one(encoder: StaticEncoder, texts: list[str]) -> None:
    batch = encoder.encode(texts)
    assert batch.dtype == np.float32
    for text, row, ids in zip(texts, batch, encoder.token_ids_batch(texts), strict=True):
        np.testing.assert_allclose(row, encoder.encode([text])[0], atol=1e-6)
        np.testing.assert_array_equal(ids, encoder.token_ids(text))


@given(st.permutations(SENTENCES[0].split()))
def test_the_order_of_words_does_not_matter(encoder: StaticEncoder, words: list[str]) -> None:
    np.testing.assert_allclose(
        encoder.encode([" ".join(words)]), encoder.encode([SENTENCES[0]]), atol=1e-6
    )


def test_related_texts_are_nearer_than_unrelated_ones(encoder: StaticEncoder) -> None:
    kite, string, code = encoder.encode(SENTENCES[:3])
    assert kite @ string > kite @ code


def test_a_prompt_of_one_window_is_that_text(encoder: StaticEncoder) -> None:
    np.testing.assert_array_equal(
        encoder.encode_prompt([SENTENCES[0]]), encoder.encode([SENTENCES[0]])[0]
    )


def test_head_tail_and_the_mean_of_chunks_weigh_the_same(encoder: StaticEncoder) -> None:
    vectors = encoder.encode(SENTENCES[:5])
    head, tail, chunks = vectors[0], vectors[-1], vectors[1:-1].mean(axis=0)
    wanted = (head + tail + chunks) / np.linalg.norm(head + tail + chunks)
    np.testing.assert_allclose(encoder.encode_prompt(SENTENCES[:5]), wanted, atol=1e-6)
    ids = encoder.token_ids_batch(SENTENCES[:5])
    np.testing.assert_allclose(encoder.embed_windows(ids), wanted, atol=1e-6)


def test_two_windows_weigh_the_same_and_nothing_pools_to_nothing() -> None:
    two = np.eye(2, 4, dtype=np.float32)
    np.testing.assert_allclose(pool_windows(two), [0.5**0.5, 0.5**0.5, 0, 0], atol=1e-6)
    assert not pool_windows(np.zeros((3, 4), np.float32)).any()


def test_the_static_encoder_is_an_encoder(encoder: StaticEncoder) -> None:
    def dim_of(anything: Encoder) -> int:
        return anything.encode(["kites"]).shape[1]

    assert dim_of(encoder) == encoder.dim


def test_importing_and_loading_leave_the_heavy_packages_out() -> None:
    code = (
        "import sys; from zerorouter.predict.encoders import StaticEncoder; "
        "StaticEncoder.load().encode(['plain words']); "
        "print([m for m in ('tokenizers', 'onnxruntime', 'torch') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""


# --- damaged folders ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["encoder.json", "table.safetensors", "vocab.txt"])
def test_a_missing_file_is_named_with_what_to_do(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CorruptArtifactError, match=rf"{name} is missing.*reinstall"):
        StaticEncoder.load(folder)


@pytest.mark.parametrize("name", ["table.safetensors", "vocab.txt"])
def test_a_flipped_byte_is_found(folder: Path, name: str) -> None:
    raw = bytearray((folder / name).read_bytes())
    raw[len(raw) // 2] ^= 1
    (folder / name).write_bytes(raw)
    with pytest.raises(CorruptArtifactError, match=rf"{name} has sha256 .* damaged"):
        StaticEncoder.load(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00"])
def test_a_broken_description_is_refused(folder: Path, text: str) -> None:
    (folder / "encoder.json").write_text(text)
    with pytest.raises(CorruptArtifactError, match=r"encoder\.json"):
        StaticEncoder.load(folder)


def test_a_description_without_checksums_is_refused(folder: Path) -> None:
    (folder / "encoder.json").write_text('{"format_version": 1}')
    with pytest.raises(CorruptArtifactError, match="sha256"):
        StaticEncoder.load(folder)


def test_an_encoder_of_a_later_format_asks_for_an_upgrade(folder: Path) -> None:
    meta = json.loads((folder / "encoder.json").read_text())
    (folder / "encoder.json").write_text(json.dumps(meta | {"format_version": 99}))
    with pytest.raises(NewerArtifactError, match=r"format 99.*upgrade"):
        StaticEncoder.load(folder)


@pytest.mark.parametrize("broken", ["short vocabulary", "no scale", "float table", "garbage"])
def test_parts_that_do_not_fit_are_refused(folder: Path, broken: str) -> None:
    from hashlib import sha256

    from safetensors.numpy import load_file, save_file

    table, vocabulary = folder / "table.safetensors", folder / "vocab.txt"
    arrays = load_file(table)
    if broken == "short vocabulary":
        vocabulary.write_text("[UNK]\nkite\n")
    elif broken == "no scale":
        del arrays["scale"]
        save_file(arrays, table)
    elif broken == "float table":
        save_file(arrays | {"table": arrays["table"].astype(np.float32)}, table)
    else:
        table.write_bytes(b"kites")
    meta = json.loads((folder / "encoder.json").read_text()) | {
        "table_sha256": sha256(table.read_bytes()).hexdigest(),
        "vocab_sha256": sha256(vocabulary.read_bytes()).hexdigest(),
    }
    (folder / "encoder.json").write_text(json.dumps(meta))
    with pytest.raises(CorruptArtifactError, match="reinstall"):
        StaticEncoder.load(folder)


# --- MiniLM ------------------------------------------------------------------------------------


def test_without_an_export_the_recipe_is_printed(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the extra [onnx] is not installed")
    with pytest.raises(ArtifactError, match=r"scripts/export_minilm\.py"):
        MiniLMEncoder.load(tmp_path)


@pytest.fixture(scope="module")
def minilm() -> MiniLMEncoder:
    pytest.importorskip("onnxruntime", reason="the extra [onnx] is not installed")
    if not (minilm_dir() / "manifest.json").is_file():
        pytest.skip(f"no exported MiniLM in {minilm_dir()}; see scripts/export_minilm.py")
    return MiniLMEncoder.load()


def test_minilm_gives_unit_vectors_and_zero_for_nothing(minilm: MiniLMEncoder) -> None:
    vectors = minilm.encode([*SENTENCES, ""])
    assert vectors.shape == (len(SENTENCES) + 1, minilm.dim)
    np.testing.assert_allclose(np.linalg.norm(vectors[:-1], axis=1), 1.0, atol=1e-5)
    assert not vectors[-1].any()


def test_a_minilm_batch_is_its_texts_one_by_one(minilm: MiniLMEncoder) -> None:
    singles = np.concatenate([minilm.encode([text]) for text in SENTENCES])
    np.testing.assert_allclose(minilm.encode(SENTENCES), singles, atol=1e-6)


def test_minilm_reads_long_texts_to_their_end(minilm: MiniLMEncoder) -> None:
    long = "kites over the bay; " * 200
    ends = minilm.encode([f"{long} {SENTENCES[2]}", f"{long} {SENTENCES[1]}"])
    assert ends[0] @ ends[1] < 0.9999


def test_static_and_minilm_agree_on_what_is_near(
    encoder: StaticEncoder, minilm: MiniLMEncoder
) -> None:
    ours, theirs = encoder.encode(SENTENCES[:3]), minilm.encode(SENTENCES[:3])
    assert np.argmax(ours[0] @ ours[1:].T) == np.argmax(theirs[0] @ theirs[1:].T)


def test_a_damaged_minilm_is_refused(minilm: MiniLMEncoder, tmp_path: Path) -> None:
    assert minilm.dim == 384
    folder = Path(shutil.copytree(minilm_dir(), tmp_path / "minilm"))
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"!")
    with pytest.raises(CorruptArtifactError, match=r"model\.onnx has sha256"):
        MiniLMEncoder.load(folder)


# --- the home folder ---------------------------------------------------------------------------


def test_the_home_folder_is_what_the_variable_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ZEROROUTER_HOME", str(tmp_path / "state"))
    assert home_dir() == tmp_path / "state"
    assert minilm_dir() == tmp_path / "state" / "encoders" / "minilm-l6-v2"
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("platform", "variables", "wanted"),
    [
        ("linux", {"XDG_DATA_HOME": os.sep + "xdg"}, Path(os.sep + "xdg") / "zerorouter"),
        ("linux", {"XDG_DATA_HOME": "relative"}, Path.home() / ".local/share/zerorouter"),
        ("linux", {}, Path.home() / ".local/share/zerorouter"),
        ("darwin", {}, Path.home() / "Library/Application Support/zerorouter"),
        ("win32", {"LOCALAPPDATA": "local"}, Path("local/zerorouter")),
        ("win32", {}, Path.home() / "AppData/Local/zerorouter"),
    ],
)
def test_the_home_folder_follows_the_platform(
    monkeypatch: pytest.MonkeyPatch, platform: str, variables: dict[str, str], wanted: Path
) -> None:
    for name in ("XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert _user_data_dir(platform) / "zerorouter" == wanted
