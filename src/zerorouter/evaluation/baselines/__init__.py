"""Routing methods, a file each behind `contracts.Method`.

A new method is one file and one line in `_WHERE`. Nothing is imported before it is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from zerorouter.errors import UnknownNameError
from zerorouter.evaluation.contracts import Method

_HERE: Final = "zerorouter.evaluation.baselines"
_WHERE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "zerorouter": "zerorouter:ZeroRouter",
        "zerorouter_scores": "scores:ZeroRouterScores",
        "zerorouter_full": "zerorouter:ZeroRouterFull",
        "zerorouter_onnx": "zerorouter:ZeroRouterOnnx",
        "zerorouter_paper": "paper:ZeroRouterPaper",
        "zerorouter_paper_tuned": "paper:ZeroRouterPaperTuned",
        "random": "random_choice:Random",
        "cheapest": "cheapest:Cheapest",
        "best_single": "best_single:BestSingle",
        "knn": "knn:Knn",
        "knn_warm": "knn_warm:KnnWarm",
        "kmeans": "kmeans:KMeans",
        "avengers_pro": "avengers_pro:AvengersPro",
        "carrot": "carrot:Carrot",
        "mirt": "mirt:Mirt",
        "radar": "radar:Radar",
        "mf": "mf:MatrixFactorisation",
        "length_only": "length_only:LengthOnly",
        "oracle": "oracle:Oracle",
        "shuffled_labels": "shuffled_labels:ShuffledLabels",
        "random_features": "random_features:RandomFeatures",
    }
)


class _Registry(Mapping[str, type[Method]]):
    """Method classes by id, imported when first asked for."""

    def __getitem__(self, method_id: str) -> type[Method]:
        module, _, name = _WHERE[method_id].partition(":")
        found: type[Method] = getattr(importlib.import_module(f"{_HERE}.{module}"), name)
        return found

    def __contains__(self, method_id: object) -> bool:
        return method_id in _WHERE

    def __iter__(self) -> Iterator[str]:
        return iter(_WHERE)

    def __len__(self) -> int:
        return len(_WHERE)


METHODS: Final[Mapping[str, type[Method]]] = _Registry()
"""Every method by its id, in the order of the tables."""


def find_method(method_id: str) -> type[Method]:
    """The class of a method.

    Raises:
        UnknownNameError: there is no such method; the nearest id is suggested.
    """
    if method_id not in METHODS:
        raise UnknownNameError("method", method_id, METHODS)
    return METHODS[method_id]
