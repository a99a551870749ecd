"""Distil the static encoder from MiniLM, in closed form, with one command.

Run it from the repository's root, in the environment that `scripts/export_minilm.py` describes
(with ``scipy`` and ``pyarrow`` added)::

    /tmp/minilm-venv/bin/python -m scripts.distill_encoder ../shared/data

The static encoder gives every token of the vocabulary one vector; a text is the normalised sum
of its tokens' vectors. With ``C`` the (texts, V) matrix of token shares per text, ``T`` the
teacher's unit vectors and ``X0`` start vectors taken from the teacher, the fit is

    T s  ~  C (X0 M + R),    M: (start dim, dim) a linear map,  R: (V, dim) under a ridge,

first M by least squares (it serves tokens that no text of the corpus has), then R by conjugate
gradients on ``(C'C + diag(penalty)) R = C'(T s - C X0 M)``. Only prompt texts enter: no
response, no score. Two sets of texts are never fitted on (`HELD_SETS`) and a tenth of the others,
chosen by a hash of the question, is held out as well.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import safetensors.numpy
import torch
from numpy.typing import NDArray
from scipy import sparse, stats
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from scripts.export_minilm import CLS, MAX_TOKENS, PAD, SEP, load_minilm, package_dir, sha256

FIT_SETS = ("mmlu-pro", "zeroeval", "reasoning-gym", "cruxeval", "alpaca-eval")
HELD_SETS = ("bfcl", "routerbench-subset")
SCORED_SETS = ("mmlu-pro", "zeroeval")
# Options are written in the ways people write them, so that no one format is learned.
OPTION_MARKS = ("{letter}) ", "({letter}) ", "{letter}. ", "{number}. ", "- ")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

Array = NDArray[np.float32]
log = logging.getLogger("distill")


@dataclass(frozen=True, kw_only=True)
class Text:
    """One prompt as the encoder will see it."""

    source: str
    text: str
    held_out: bool
    mean_score: float  # over the models that were asked; NaN where the set is not scored


def read_corpus(data: Path, seed: int) -> list[Text]:
    """Every prompt of the records, options written out, duplicates dropped."""
    rng = np.random.default_rng(seed)
    found: dict[str, Text] = {}
    for source in (*FIT_SETS, *HELD_SETS):
        rows = pq.read_table(data / source / "prompts.parquet").to_pylist()
        means = _mean_scores(data / source) if source in SCORED_SETS else {}
        for row in rows:
            text = row["text"].strip()
            if source == "mmlu-pro":
                text += "\n" + _options(json.loads(row["choices"]), rng)
            held = source in HELD_SETS or _bucket(row["text"], seed) == 0
            score = means.get(row["prompt_id"], float("nan"))
            found.setdefault(
                text, Text(source=source, text=text, held_out=held, mean_score=score)
            )
    return list(found.values())


def _options(options: Sequence[str], rng: np.random.Generator) -> str:
    mark = OPTION_MARKS[rng.integers(len(OPTION_MARKS))]
    return "\n".join(
        mark.format(letter=LETTERS[i], number=i + 1) + option for i, option in enumerate(options)
    )


def _mean_scores(folder: Path) -> dict[str, float]:
    table = pq.read_table(folder / "responses.parquet", columns=["prompt_id", "score"])
    grouped = table.group_by("prompt_id").aggregate([("score", "mean")])
    return dict(
        zip(grouped["prompt_id"].to_pylist(), grouped["score_mean"].to_pylist(), strict=True)
    )


def _bucket(question: str, seed: int) -> int:
    """0 to 9, equal for repeats of a question and for items about the same function."""
    at = question.rfind("def f(")
    key = question[at:].split("assert")[0] if at >= 0 else question
    key = f"{seed}:" + " ".join(key.casefold().split())
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4]) % 10


def bert_tokenizer(vocab: Path) -> Tokenizer:
    """The teacher's tokenizer without special tokens, truncation or padding."""
    words = vocab.read_text(encoding="utf-8").split("\n")[:-1]
    tokenizer = Tokenizer(WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True
    )
    tokenizer.pre_tokenizer = BertPreTokenizer()
    return tokenizer


def embed(sequences: Sequence[Sequence[int]], cache: Path, label: str) -> Array:
    """The teacher's vectors of token id sequences, (n, 384), kept in ``cache``."""
    key = hashlib.sha256(repr([list(s) for s in sequences]).encode()).hexdigest()[:16]
    file = cache / f"{label}-{key}.npy"
    if file.exists():
        return np.asarray(np.load(file), dtype=np.float32)
    model, order = load_minilm(), sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
    out = np.zeros((len(sequences), 384), np.float32)
    started, done = time.perf_counter(), 0
    for batch in _batches([len(sequences[i]) + 2 for i in order]):
        rows = [order[i] for i in batch]
        longest = max(len(sequences[i]) for i in rows) + 2
        ids = torch.full((len(rows), longest), PAD)
        for r, i in enumerate(rows):
            ids[r, : len(sequences[i]) + 2] = torch.tensor([CLS, *sequences[i], SEP])
        with torch.inference_mode():
            out[rows] = model(ids, (ids != PAD).long()).numpy()
        done += len(rows)
        log.info("%s: %d of %d, %.0f s", label, done, len(order), time.perf_counter() - started)
    cache.mkdir(parents=True, exist_ok=True)
    np.save(file, out)
    return out


def _batches(lengths: Sequence[int], budget: int = 8192) -> Iterator[range]:
    """Runs of ``lengths`` (ascending) whose padded size stays within ``budget`` tokens."""
    start = 0
    for i, length in enumerate(lengths):
        if (i + 1 - start) * length > budget and i > start:
            yield range(start, i)
            start = i
    yield range(start, len(lengths))


def share_matrix(sequences: Sequence[Sequence[int]], n_tokens: int) -> sparse.csr_matrix:
    """Row i holds each token's share of text i, (n_texts, n_tokens)."""
    lengths = np.array([len(s) for s in sequences])
    rows = np.repeat(np.arange(len(sequences)), lengths)
    values = np.repeat(1.0 / np.maximum(lengths, 1), lengths).astype(np.float32)
    columns = np.concatenate([np.asarray(s, dtype=np.int64) for s in sequences])
    shape = (len(sequences), n_tokens)
    return sparse.csr_matrix((values, (rows, columns)), shape=shape)


def linear_map(shares: sparse.csr_matrix, start: Array, target: Array) -> Array:
    """``start`` sent through the best linear map (and constant) towards ``target``, (V, dim)."""
    ones = np.ones((len(start), 1), np.float32)
    start = np.hstack([start, ones])  # a constant per token is a constant per text: shares add to 1
    A = shares @ start
    gram = (A.T @ A).astype(np.float64)
    ridge = 1e-5 * np.trace(gram) / len(gram) * np.eye(len(gram))
    M = np.linalg.solve(gram + ridge, (A.T @ target).astype(np.float64))
    return np.asarray(start @ M.astype(np.float32))


def refit(
    shares: sparse.csr_matrix, start: Array, target: Array, penalty: float, steps: int
) -> Array:
    """``start + R`` with R from ``(C'C + penalty I) R = C'(target - C start)``, by block CG.

    All columns share the matrix but keep their own step lengths; the diagonal preconditions.
    """
    C, Ct = shares, shares.T.tocsr()
    diagonal = np.asarray(C.multiply(C).sum(0)).ravel()[:, None].astype(np.float32) + penalty
    R = np.zeros_like(start)
    residual = Ct @ (target - C @ start)
    z = residual / diagonal
    direction, rho = z.copy(), (residual * z).sum(0)
    first, tiny = np.sqrt(rho), np.float32(1e-30)  # three of the teacher's dimensions are dead
    for _ in range(steps):
        image = Ct @ (C @ direction) + penalty * direction
        alpha = rho / np.maximum((direction * image).sum(0), tiny)
        R += alpha * direction
        residual -= alpha * image
        z = residual / diagonal
        rho, before = (residual * z).sum(0), rho
        if (np.sqrt(rho) < 1e-3 * first).all():
            break
        direction = z + rho / np.maximum(before, tiny) * direction
    return np.asarray(start + R)


def unit(vectors: Array) -> Array:
    """Rows at length one; zero rows stay zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(norms > 0, norms, 1.0), dtype=np.float32)


def cosine(student: Array, teacher: Array) -> float:
    """Mean cosine between rows of unit vectors."""
    return float((student * teacher).sum(1).mean())


def similarity_rank(student: Array, teacher: Array, seed: int, n_pairs: int = 50_000) -> float:
    """Spearman correlation of pairwise similarities, over random pairs of texts."""
    rng = np.random.default_rng(seed)
    left, right = rng.integers(len(student), size=(2, n_pairs))
    left, right = left[left != right], right[left != right]
    ours = (student[left] * student[right]).sum(1)
    theirs = (teacher[left] * teacher[right]).sum(1)
    return float(stats.spearmanr(ours, theirs).statistic)


def neighbour_overlap(student: Array, teacher: Array, k: int = 10) -> float:
    """Share of a text's k nearest under the teacher that are among its k nearest here."""
    nearest = []
    for vectors in (student, teacher):
        similarity = vectors @ vectors.T
        np.fill_diagonal(similarity, -2.0)
        nearest.append(np.argpartition(-similarity, k, axis=1)[:, :k])
    shared = [len(np.intersect1d(a, b)) for a, b in zip(*nearest, strict=True)]
    return float(np.mean(shared)) / k


def score_r2(vectors: Array, scores: NDArray[np.float64], folds: NDArray[np.int64]) -> float:
    """Out-of-fold R^2 of a ridge from vectors to the prompts' mean scores, best penalty of six."""
    X = np.hstack([vectors, np.ones((len(vectors), 1), np.float32)]).astype(np.float64)
    penalties = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
    errors = np.zeros(len(penalties))
    for fold in np.unique(folds):
        train = folds != fold
        mean = scores[train].mean()
        values, basis = np.linalg.eigh(X[train].T @ X[train])
        projected = basis.T @ (X[train].T @ (scores[train] - mean))
        for i, penalty in enumerate(penalties):
            w = basis @ (projected / (values + penalty))
            errors[i] += ((scores[~train] - mean - X[~train] @ w) ** 2).sum()
    return float(1.0 - errors.min() / ((scores - scores.mean()) ** 2).sum())


def quantise(table: Array) -> tuple[NDArray[np.int8], Array]:
    """int8 with one scale per dimension; one for all costs four times the error."""
    scale = np.maximum(np.abs(table).max(axis=0), 1e-6) / 127.0  # a dead dimension stays zero
    return np.rint(table / scale).astype(np.int8), scale.astype(np.float32)
