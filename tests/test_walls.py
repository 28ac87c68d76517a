"""The walls between the rooms, as a table; every import is checked against it."""

from __future__ import annotations

import ast
from collections.abc import Callable
from functools import cache
from pathlib import Path

SRC = Path(__file__).parents[1] / "src"
MODULES = sorted((SRC / "psfharvest").rglob("*.py"))

MAY_IMPORT = {
    "core": {"core"},
    "filesystem": {"core", "filesystem"},
    "events": {"core", "events"},
    "metrics": {"core", "events", "metrics", "version"},
    "engine": {"concurrency", "core", "engine", "events"},
    "archive": {"archive", "concurrency", "core", "engine", "events", "version"},
    "store": {"core", "filesystem", "store", "version"},
    "run": {"archive", "concurrency", "core", "engine", "events", "filesystem", "run", "store", "version"},
    "cluster": {"archive", "cluster", "concurrency", "core", "events", "filesystem", "run", "store", "version"},
    "client": {"archive", "cluster", "core", "engine", "events", "filesystem", "metrics", "run", "show", "store"},
    "concurrency": {"concurrency", "core"},
    "blocking": {"archive", "client", "concurrency", "core", "engine", "events", "run", "show"},
    "notebook": {"core", "filesystem", "notebook", "store"},
    "mast_api_psf": {"archive", "blocking", "client", "core", "notebook", "show"},
    "doctor": {"archive", "core", "doctor", "version"},
    "export": {"core", "export", "filesystem", "store"},
    "show": {"core", "filesystem", "show"},
    "plot": {"show"},
    "examples": {
        *(
            "Archive",
            "ArchiveDown",
            "BadInput",
            "CutoutFailed",
            "CutoutMissing",
            "DetectorName",
            "Harvest",
            "Query",
        ),
        *("SuffixName", "blocking", "export", "metrics", "plot"),
    },
    "simulator": {"simulator"},
    "serve": {"client", "core", "serve", "store"},
    "cli": {
        "archive",
        "cli",
        "client",
        "cluster",
        "core",
        "doctor",
        "events",
        "export",
        "filesystem",
        "metrics",
        "notebook",
        "run",
        "serve",
        "show",
        "simulator",
        "store",
        "version",
    },
    "version": set(),
    "__main__": {"cli"},
    "__init__": {"blocking", "client", "core", "engine", "events", "store", "version"},
    "pytest_plugin": {"filesystem", "simulator"},
}
"""What each room may import of ours, without exceptions."""

ONLY_HERE = {
    "httpx": {"archive.wires"},
    "pycurl": {"archive.wires.curl"},
    "sqlite3": {"store.manifest"},
    "tenacity": {"core.policy.retry"},
    "matplotlib": {"show.plot", "show.figure"},
    "photutils": {"store.read.stars", "store.read.epsf", "store.read.stack", "store.read.analysis"},
    "pyarrow": {"store.sinks", "store.readers", "store.recover.parquet_candidates"},
    "zarr": {"export.zarr_folder"},
    "h5py": {"export.hdf5_file"},
    "distributed": {"cluster"},
    "tqdm": {"show.progress"},
    "prometheus_client": {"metrics.prometheus", "metrics.exporter", "examples.fastapi_service"},
    "fastapi": {"examples.fastapi_service"},
    "trio": {"concurrency", "examples.trio_program"},
    "opentelemetry": {"metrics.telemetry"},
    "starlette": {"serve", "examples.starlette_service"},
    "uvicorn": {"serve.server", "simulator"},
    "asyncio": {"cluster", "export.zarr_folder", "simulator"},  # Dask and zarr run on it
}
"""Each part of the world has one door: the modules whose names begin so."""


def name_of(path: Path) -> str:
    parts = path.relative_to(SRC / "psfharvest").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


NAMES = {name_of(path): path for path in MODULES}


@cache
def tree_of(name: str) -> ast.Module:
    return ast.parse(NAMES[name].read_text())


@cache
def nodes_of(name: str) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(tree_of(name)))


def imports_of(name: str) -> set[str]:
    found: set[str] = set()
    for node in nodes_of(name):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}: relative import"
            found.add(node.module or "")
            if node.module == "psfharvest":
                found |= {f"psfharvest.{alias.name}" for alias in node.names}
    return found - {"psfharvest"}


def imported_when_run(name: str) -> set[str]:
    """Return the modules of ours that a module imports, in its functions, too, but not for types alone."""
    for_types = {
        id(inner)
        for node in nodes_of(name)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found: set[str] = set()
    for node in nodes_of(name):
        if not isinstance(node, ast.ImportFrom) or id(node) in for_types:
            continue
        module = str(node.module).removeprefix("psfharvest").removeprefix(".")
        inside = {f"{module}.{alias.name}".removeprefix(".") for alias in node.names} & NAMES.keys()
        found |= inside or {module}
    return found & NAMES.keys()


def offences(of_module: Callable[[str], set[str]]) -> dict[str, set[str]]:
    """Return what each module does that it may not, without those that do nothing of the kind."""
    return {name: found for name in NAMES if (found := of_module(name))}


def test_imports_keep_the_walls() -> None:
    """A module imports of ours only what its room may."""

    def beyond(name: str) -> set[str]:
        ours = {
            i.removeprefix("psfharvest.").split(".")[0] for i in imports_of(name) if i.startswith("psfharvest.")
        }
        return ours - MAY_IMPORT[name.split(".", maxsplit=1)[0]]

    assert {} == offences(beyond)


def test_each_part_of_the_world_has_one_door() -> None:
    """A library that stands for a part of the world is imported by its own modules only."""

    def trespasses(name: str) -> set[str]:
        tops = {i.split(".")[0] for i in imports_of(name)}
        return {top for top in tops if top in ONLY_HERE and not name.startswith(tuple(ONLY_HERE[top]))}

    assert {} == offences(trespasses)


def test_no_import_leads_back() -> None:
    """Imports make no circle, those within functions included: what is left when all ends are taken off is none."""
    graph = {name: imported_when_run(name) for name in NAMES}
    while ends := {name for name, imports in graph.items() if not imports & graph.keys()}:
        graph = {name: imports for name, imports in graph.items() if name not in ends}

    assert {} == graph


BARE_DESCRIPTORS = {"open", "close", "write", "pread", "pwrite", "writev", "fsync", "fdatasync", "ftruncate"}


def test_a_descriptor_has_one_owner() -> None:
    """A descriptor's bare number, which may be another file's once it is closed, is used in one room only."""

    def bare(name: str) -> set[str]:
        if name.startswith("filesystem"):
            return set()
        of_os = (n for n in nodes_of(name) if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name))
        return {node.attr for node in of_os if ast.unparse(node.value) == "os"} & BARE_DESCRIPTORS

    assert {} == offences(bare)


def test_core_has_no_senses() -> None:
    """The core reads no clock, draws no numbers, opens nothing."""
    senses = {"time", "random", "os", "pathlib", "socket", "anyio", "asyncio", "threading", "subprocess", "sqlite3"}

    def sensed(name: str) -> set[str]:
        return (
            {i.split(".")[0] for i in imports_of(name)} & senses
            if name.split(".", maxsplit=1)[0] == "core"
            else set()
        )

    assert {} == offences(sensed)


def test_every_module_opens_with_its_law_and_stays_short() -> None:
    """A module has a docstring, and not more than 480 lines."""
    assert [] == [name for name in NAMES if not ast.get_docstring(tree_of(name))]
    assert [] == [name for name, path in NAMES.items() if len(path.read_text().splitlines()) > 480]
