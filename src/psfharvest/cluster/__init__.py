"""Harvest in parts on a Dask cluster (extra ``dask``)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psfharvest.cluster.local import require_dask
from psfharvest.core import ranges
from psfharvest.core.catalog.plan import Part
from psfharvest.core.errors import BadInput
from psfharvest.core.model import Limits, Report, RetryPolicy

if TYPE_CHECKING:
    from psfharvest.run import Job, What

PART_ROWS = 50_000


async def on_cluster(
    client: Any,
    job: Job,
    limits: Limits,
    retry: RetryPolicy | None,
    part_rows: int | None,
    what: What | Path,
    suffixes: Sequence[str],
    *,
    extend: bool,
    part: Part | None,
    **sizes: int,
) -> Report:
    """
    Harvest in parts on a cluster and merge them; what is merged already, or is empty, is harvested here.

    Raises
    ------
    BadInput, LocalError
        As `psfharvest.cluster.head.harvest_in_parts` does.
    """
    require_dask()
    part_rows = PART_ROWS if part_rows is None else part_rows
    ranges.PAGE_ROWS.check("part_rows", part_rows)
    for name, is_given in (("part", part), ("extend", extend), ("max_bytes", job.max_bytes)):
        if is_given:
            raise BadInput(f"{name}=… does not go with a cluster: it is for a harvest in one folder")
    endpoints = job.session.endpoints
    if endpoints.token and endpoints.token != os.environ.get("MAST_API_TOKEN"):
        raise BadInput("a token is not sent through the cluster: set MAST_API_TOKEN where the workers run")
    from psfharvest.cluster.head import harvest_in_parts  # noqa: PLC0415 - needs the extra
    from psfharvest.cluster.order import Order  # noqa: PLC0415

    folder = job.folder.absolute()
    order = Order(folder, job.settings, job.via, endpoints.base, limits, retry, part_rows, job.accept)
    with closing(job.session.hub.voice(listener=job.events)) as voice:
        report = await harvest_in_parts(client, endpoints, order, what, suffixes, job.progress, voice, **sizes)
    return await job.harvest(what, suffixes, extend=False, part=None, **sizes) if report is None else report
