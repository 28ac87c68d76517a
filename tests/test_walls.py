"""The walls between the rooms, as a table; every import is checked against it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src"
MODULES = sorted((SRC / "psfharvest").rglob("*.py"))

MAY_IMPORT = {
    "core": {"core"},
    "filesystem": {"core", "filesystem"},
    "events": {"core", "events"},
    "metrics": {"core", "events", "metrics", "version"},
    "engine": {"core", "engine", "events"},
    "archive": {"archive", "core", "engine", "events", "version"},
    "store": {"core", "filesystem", "store", "version"},
    "run": {"archive", "core", "engine", "events", "filesystem", "run", "store", "version"},
    "client": {"archive", "core", "engine", "events", "filesystem", "metrics", "run", "show", "store"},
    "concurrency": {"core"},
    "blocking": {"archive", "client", "concurrency", "core", "engine", "events", "run", "show"},
    "notebook": {"core", "filesystem", "notebook", "store"},
    "mast_api_psf": {"archive", "blocking", "client", "core", "notebook", "show"},
    "doctor": {"archive", "core", "doctor", "version"},
    "export": {"core", "export", "filesystem", "store"},
    "show": {"core", "filesystem", "show"},
    "plot": {"show"},
    "examples": {"Harvest", "Query", "blocking", "export", "plot"},
    "simulator": {"simulator"},
    "serve": {"client", "core", "serve", "store"},
    "cli": {
        "archive",
        "cli",
        "client",
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
    "tqdm": {"show.progress"},
    "prometheus_client": {"metrics.prometheus", "metrics.exporter"},
    "opentelemetry": {"metrics.telemetry"},
    "starlette": {"serve"},
    "uvicorn": {"serve.server", "simulator"},
    "asyncio": {"simulator"},
}
"""Each part of the world has one door: the modules whose names begin so."""


def name_of(path: Path) -> str:
    parts = path.relative_to(SRC / "psfharvest").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            found.add(node.module or "")
            if node.module == "psfharvest":
                found |= {f"psfharvest.{alias.name}" for alias in node.names}
    return found - {"psfharvest"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_keep_the_walls(path: Path) -> None:
    """A module imports of ours only what its room may."""
    name = name_of(path)
    room = name.split(".")[0]
    allowed = MAY_IMPORT[room]

    of_ours = {i.removeprefix("psfharvest.").split(".")[0] for i in imports_of(path) if i.startswith("psfharvest.")}

    assert set() == of_ours - allowed


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_each_part_of_the_world_has_one_door(path: Path) -> None:
    """A library that stands for a part of the world is imported by its own modules only."""
    name = name_of(path)

    trespasses = {
        top
        for top in {i.split(".")[0] for i in imports_of(path)}
        if top in ONLY_HERE and not name.startswith(tuple(ONLY_HERE[top]))
    }

    assert set() == trespasses


def imported_when_run(path: Path) -> set[str]:
    """Return the modules of ours that a module imports, in its functions, too, but not for types alone."""
    tree = ast.parse(path.read_text())
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.ImportFrom)
            and id(node) not in for_types
            and str(node.module).startswith("psfharvest")
        ):
            inside = {f"{node.module}.{alias.name}".removeprefix("psfharvest.") for alias in node.names}
            modules = inside & NAMES
            found |= modules or {str(node.module).removeprefix("psfharvest.")}
    return found


NAMES = {name_of(path) for path in MODULES}


def test_no_import_leads_back() -> None:
    """Imports make no circle, those within functions included: what is left when all ends are taken off is none."""
    graph = {name_of(path): imported_when_run(path) & NAMES for path in MODULES}
    while ends := {name for name, imports in graph.items() if not imports & graph.keys()}:
        graph = {name: imports for name, imports in graph.items() if name not in ends}

    assert {} == graph


BARE_DESCRIPTORS = {"open", "close", "write", "pread", "pwrite", "writev", "fsync", "fdatasync", "ftruncate"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_descriptor_has_one_owner(path: Path) -> None:
    """A descriptor's bare number, which may be another file's once it is closed, is used in one room only."""
    if name_of(path).startswith("filesystem"):
        return
    calls = {
        node.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os"
    }

    assert set() == calls & BARE_DESCRIPTORS


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_core_has_no_senses(path: Path) -> None:
    """The core reads no clock, draws no numbers, opens nothing."""
    if name_of(path).split(".")[0] != "core":
        return
    senses = {"time", "random", "os", "pathlib", "socket", "anyio", "asyncio", "threading", "subprocess", "sqlite3"}

    assert set() == {i.split(".")[0] for i in imports_of(path)} & senses


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_opens_with_its_law_and_stays_short(path: Path) -> None:
    """A module has a docstring, and not more than 480 lines."""
    text = path.read_text()

    assert ast.get_docstring(ast.parse(text))
    assert len(text.splitlines()) <= 480
