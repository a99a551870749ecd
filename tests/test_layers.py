"""The house of DESIGN section 3: imports point down, and there are no cycles."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import zerorouter

ROOT = Path(zerorouter.__file__).parent

# From the ground up; a module may import from its own layer and from those below.
LAYERS = (
    ("errors", "arrays", "paths", "_version"),
    ("prices",),
    (
        *("data", "catalog", "price_lists", "config", "serving_config"),
        *("artifacts", "linking", "covariates"),
    ),
    ("irt",),
    ("predict",),
    ("space", "known_items"),
    ("routing",),
    ("onboarding", "learning"),
    ("profiles", "card_only"),
    ("router",),
    ("fitting", "calibrating", "bulk"),
    ("evaluation",),
    ("listening",),
    ("sandbox", "asking"),
    ("gateway",),
    ("cli", "__main__"),
)
LEVEL = {part: level for level, layer in enumerate(LAYERS) for part in layer}
# Heavy packages and where they may be imported at module level: nowhere.
LAZY = {
    *("onnxruntime", "pandas", "plotly", "pyarrow", "pydantic", "rich", "scipy", "sklearn"),
    *("threadpoolctl", "torch", "aiohttp", "httptools", "orjson", "starlette", "uvicorn", "uvloop"),
    *("opentelemetry", "prometheus_client", "sqlalchemy"),
    "reasoning_gym",
}


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in sorted(ROOT.rglob("*.py"))}


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        # ``from zerorouter.routing import choice`` imports a module, most others a name in one.
        below = [f"{node.module}.{alias.name}" for alias in node.names]
        return [name if name in MODULES else node.module for name in below]
    return []


def at_import_time(tree: ast.Module) -> Iterator[ast.AST]:
    """Statements that run when the module is imported, those for type checkers left out."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            waiting.extend(node.orelse)
            continue
        yield node
        waiting.extend(ast.iter_child_nodes(node))


def imports(module: str, *, all_of_them: bool) -> set[str]:
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    nodes = ast.walk(tree) if all_of_them else at_import_time(tree)
    return {name for node in nodes for name in imported(node)}


def part(module: str) -> str:
    return module.split(".")[1]


def test_every_part_of_the_package_has_a_layer():
    assert {part(m) for m in MODULES if m != "zerorouter"} == set(LEVEL)


@pytest.mark.parametrize("module", [m for m in MODULES if m != "zerorouter"])
def test_imports_only_point_down(module):
    """Also those inside functions and for type checkers: they are dependencies as well."""
    for name in imports(module, all_of_them=True):
        if name.startswith("zerorouter."):
            assert LEVEL[part(name)] <= LEVEL[part(module)], f"{module} reaches up to {name}"


def test_no_module_is_imported_in_a_circle():
    edges = {m: imports(m, all_of_them=False) & MODULES.keys() - {m} for m in MODULES}
    while leaves := [m for m, below in edges.items() if not below & edges.keys()]:
        for leaf in leaves:
            del edges[leaf]
    assert not edges, f"imported in a circle, or from one: {sorted(edges)}"


@pytest.mark.parametrize("module", MODULES)
def test_heavy_packages_are_imported_where_they_are_used(module):
    roots = {name.partition(".")[0] for name in imports(module, all_of_them=False)}
    assert not roots & LAZY


def test_mathematics_and_decisions_know_no_clock_network_or_global_randomness():
    forbidden = {"time", "datetime", "socket", "urllib", "http", "random", "requests", "aiohttp"}
    for module in MODULES:
        if module.startswith(("zerorouter.irt", "zerorouter.predict", "zerorouter.routing")):
            roots = {name.partition(".")[0] for name in imports(module, all_of_them=True)}
            assert not roots & forbidden, module


def test_the_walk_finds_what_it_looks_for():
    """Guards the guard: imports of every form are seen."""
    tree = ast.parse(
        "import zerorouter.space\n"
        "from zerorouter.routing import choice\n"
        "from zerorouter.errors import InputError\n"
        "def f():\n    import scipy\n"
        "if TYPE_CHECKING:\n    import rich\n"
    )
    every = {name for node in ast.walk(tree) for name in imported(node)}
    early = {name for node in at_import_time(tree) for name in imported(node)}
    assert early == {"zerorouter.space", "zerorouter.routing.choice", "zerorouter.errors"}
    assert every == early | {"scipy", "rich"}
