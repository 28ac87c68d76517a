"""Fixtures for all tests: the event loops, one simulated archive a module; what was left out of a run."""

from __future__ import annotations

import gc
import math
import os
import shlex
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

import command_process
import sampling
from harness import Run
from psfharvest.simulator import Settings, Simulator

settings.register_profile("dev", max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
settings.register_profile("deep", deadline=None, max_examples=5000, suppress_health_check=list(HealthCheck))
TIMEOUT_S = 120
"""A command that takes longer hangs."""
LONG_FILES = [
    "whole/test_fault_matrix.py",
    "whole/test_crash_campaign.py",
    "archive/test_wires.py",
    "serve/test_browser.py",
    "faces/test_notebook.py",
    "whole/test_bundles.py",
    "cluster/test_clusters.py",
    "faces/test_pytest_plugin.py",
]
"""Files that keep a worker for half a minute or more."""
FOLDERS = ["whole", "cluster", "faces", "serve", "doctor", "hostile", "store", "archive"]
"""By the time that a test takes."""
LONG_TIMEOUT_S = 1200
"""For a test of the campaign: some kill at a hundred points, and a machine may be slow."""
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


for _number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    # An ignored signal (nohup, a background job of a script) is inherited by every child, which then never gets it;
    # a handler is not inherited: children start with the default action.
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, lambda *_: None)

_left_out = pytest.StashKey[int]()
_without_browser = pytest.StashKey[int]()
_too_late = pytest.StashKey[int]()
_ends_at = pytest.StashKey[float]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--within", type=float, metavar="MINUTES", help="begin no test later than that")
    parser.addoption("--long", choices=["first", "rest"], help="one case of each long test, or the others only")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_left_out] = config.stash[_without_browser] = config.stash[_too_late] = 0
    minutes = config.getoption("--within")
    config.stash[_ends_at] = math.inf if minutes is None else time.monotonic() + 60 * minutes
    if hasattr(config, "workerinput") and config.args_source is pytest.Config.ArgsSource.TESTPATHS:
        config.args = _from_own_start(config.workerinput)


def _from_own_start(worker: dict[str, Any]) -> list[str]:
    """
    Return all test files, from one on that differs by worker.

    Where there is no bytecode yet, as in a fresh clone, workers that begin apart compile a part each, and find the
    rest.
    """
    folder = Path(__file__).parent
    files = sorted(map(str, folder.rglob("test_*.py")))
    start = int(worker["workerid"].removeprefix("gw")) * len(files) // worker["workercount"]
    return files[start:] + files[:start]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    """Pass over a test that would begin too late; the end of the run says how many."""
    if time.monotonic() < item.config.stash[_ends_at]:
        return None
    item.config.stash[_too_late] += 1
    return True


def pytest_xdist_auto_num_workers() -> int:
    """Two workers a processor: half of the time tests wait for servers, processes and deadlines."""
    return 2 * (os.cpu_count() or 1)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Collect without garbage collection, and keep what then exists out of each later one: it stays anyway."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


@pytest.hookimpl(tryfirst=True)  # before pytest selects by markers
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sample long matrices, and leave out what drives Chromium where there is none; the end of the run says so."""
    sampling.mark_what_is_left(items)
    if which := config.option.long:
        chosen = sampling.one_of_each(items)
        items[:] = [item for item in items if sampling.is_long(item) and (item in chosen) == (which == "first")]
    if hasattr(config, "workerinput"):
        is_quick_first = "not campaign" not in config.option.markexpr and which != "first"
        items.sort(key=_rank, reverse=is_quick_first)
    for item in items:
        if sampling.is_long(item) and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(LONG_TIMEOUT_S))
    if not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        config.stash[_without_browser] = sum(item.get_closest_marker("browser") is not None for item in items)
        items[:] = [item for item in items if not item.get_closest_marker("browser")]


def _rank(item: pytest.Item) -> tuple[int, int, str]:
    """
    Return what items are sorted by: the same in all workers, which collect the files from different starts.

    Long files come first, so that no worker is left with one; then the folders whose tests take longest.

    The campaign goes the other way: it has an end, and what is quick is tried before it. Of the first cases of all
    its tests, those of whole programs come first: the default run has least of them.
    """
    folder, name = item.path.parent.name, f"{item.path.parent.name}/{item.path.name}"
    return (
        LONG_FILES.index(name) if name in LONG_FILES else len(LONG_FILES),
        FOLDERS.index(folder) if folder in FOLDERS else len(FOLDERS),
        str(item.path),
    )


def pytest_deselected(items: list[pytest.Item]) -> None:
    for item in items:
        item.config.stash[_left_out] += sampling.is_long(item)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the numbers of tests left out from a worker to the process that reports."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["left_out"] = session.config.stash[_left_out]
        output["without_browser"] = session.config.stash[_without_browser]
        output["too_late"] = session.config.stash[_too_late]


class _FromWorkers:
    """Takes what workers hand over; registered only where tests are distributed."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_testnodedown(self, node: Any) -> None:
        self._config.stash[_left_out] = node.workeroutput["left_out"]
        self._config.stash[_without_browser] = node.workeroutput["without_browser"]
        self._config.stash[_too_late] += node.workeroutput["too_late"]


def pytest_sessionstart(session: pytest.Session) -> None:
    if session.config.pluginmanager.has_plugin("dsession"):
        session.config.pluginmanager.register(_FromWorkers(session.config))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was left out, and how to run it."""
    if (n := config.stash[_left_out]) and config.option.markexpr == "not campaign":
        again = "python -m pytest -n auto -m campaign"
        terminalreporter.write_line(f"left out: {n} long tests; run them with: {again}")
    if n := config.stash[_without_browser]:
        terminalreporter.write_line(f"left out: {n} browser tests, since Chromium is not installed")
    if n := config.stash[_too_late]:
        minutes = config.getoption("--within")
        again = shlex.join(["python", "-m", "pytest", *_without_end(config.invocation_params.args)])
        terminalreporter.write_line(f"left out: {n} tests that would have begun after {minutes:g} minutes: {again}")


def _without_end(words: Sequence[str]) -> list[str]:
    """Return the words of a command line without ``--within MINUTES``."""
    return [
        word for n, word in enumerate(words) if word.partition("=")[0] != "--within" and words[n - 1] != "--within"
    ]


@pytest.fixture(params=["asyncio", pytest.param("trio", marks=pytest.mark.campaign)])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run a test on both event loops, the second in the campaign; engine and archive have both in either."""
    return str(request.param)


@pytest.fixture(scope="module")
def _shared_simulator() -> Iterator[Simulator]:
    with Simulator(Settings(sources=6000, seed=1)) as simulator:
        yield simulator


@pytest.fixture
def simulator(_shared_simulator: Simulator) -> Simulator:
    """The archive on loopback, healthy and with an empty record."""
    _shared_simulator.faults = []
    _shared_simulator.forget()
    return _shared_simulator


@pytest.fixture
def psfharvest(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory):
    """Run the command in a folder of its own, as a user would; `stdin` comes from a pipe."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PSFHARVEST_", "MAST_"))}
    scratch = tmp_path_factory.mktemp("outputs")

    def run(*words: str | Path, env: dict[str, str] | None = None, stdin: str = "") -> Run:
        done = command_process.run(
            [*map(str, words)],
            cwd=tmp_path,
            env={**clean, **(env or {})},
            scratch=scratch,
            timeout_s=TIMEOUT_S,
            stdin=stdin,
        )
        return Run(done)

    return run
