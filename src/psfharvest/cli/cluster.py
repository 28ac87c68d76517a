"""Options of ``harvest`` for several processes: ``--workers`` and ``--dask``."""

from __future__ import annotations

import re
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import click

from psfharvest.cli.options import F, Number
from psfharvest.core import ranges
from psfharvest.core.errors import BadInput


def cluster_options(command: F) -> F:
    """Add ``--workers``, ``--dask`` and ``--part-rows``."""
    for option in (
        click.option(
            "--part-rows",
            type=Number(ranges.PAGE_ROWS),
            metavar="N",
            help="With --workers or --dask: sources of a part, at most.  [default: 50000]",
        ),
        click.option(
            "--dask",
            metavar="ADDRESS",
            help="Harvest in parts on a Dask cluster: its scheduler's address, its JSON file, or local:N.",
        ),
        click.option(
            "--workers",
            type=click.IntRange(min=1),
            metavar="N",
            help="Harvest in parts with N processes of this machine; the connections are for all together.",
        ),
    ):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where the parts of a harvest are worked on: a scheduler's address, or a number of processes."""

    address: str | None
    n_workers: int | None

    @classmethod
    def of(
        cls,
        dask: str | None,
        workers: int | None,
        part_rows: int | None,
        *,
        sink: str | None,
        uris: str | None,
        **one_folder: object,
    ) -> Cluster | None:
        """
        Return what the options ask for, None for a harvest by this process.

        Parameters
        ----------
        dask, workers, part_rows, sink, uris
            The options of those names.
        one_folder
            Options that a harvest in parts has not, by name.

        Raises
        ------
        BadInput
            When they do not go together; nothing was started.
        """
        name = _chosen(dask, workers)
        if name is None:
            if part_rows is not None:
                raise BadInput("--part-rows goes with --workers N or --dask ADDRESS: add one, or leave it away")
            return None
        if sink == "files":
            raise BadInput(f"--sink files does not go with {name}: use --sink shards or --sink parquet")
        if uris == "-":
            raise BadInput(f"--uris - does not go with {name}: write the list to a file")
        for option, value in one_folder.items():
            if value:
                raise BadInput(f"--{option.replace('_', '-')} does not go with {name}: leave one of them away")
        local = re.fullmatch(r"local:([1-9]\d*)", dask or "")
        if dask is not None and dask.startswith("local:") and not local:
            raise BadInput(f"--dask {dask}: a number of processes from 1 follows, such as local:4")
        from psfharvest.cluster.local import require_dask  # noqa: PLC0415 - heavy

        require_dask()
        return cls(None, int(local[1])) if local else cls(dask, workers)

    @property
    def words(self) -> str:
        """What is waited for until the harvest can begin."""
        if self.address is None:
            return f"starting {self.n_workers} worker process{'' if self.n_workers == 1 else 'es'}"
        return f"connecting to the scheduler {self.address}"

    def connected(self, token: str | None) -> AbstractAsyncContextManager[Any]:
        """Return its client, open within the context."""
        from psfharvest.cluster.local import connected  # noqa: PLC0415 - needs the extra

        return connected(self.address, self.n_workers, token)


def _chosen(dask: str | None, workers: int | None) -> str | None:
    """Return which of the two options is given, None for neither."""
    if dask is not None and workers is not None:
        raise BadInput("either --workers N or --dask ADDRESS")
    return "--dask" if dask is not None else "--workers" if workers is not None else None
