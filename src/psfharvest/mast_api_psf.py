"""
The published notebook's module: the same functions, arguments, results and progress bars.

A notebook changes one line: ``from psfharvest import mast_api_psf``. Whatever is saved or returned was verified; an
interrupt is heard within a second and leaves nothing running; the caller's lists stay as they are. The archive is
MAST, or what the variable ``PSFHARVEST_ARCHIVE`` names; a token is read from ``MAST_API_TOKEN``.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psfharvest import blocking
from psfharvest.archive.endpoints import Endpoints
from psfharvest.core.catalog.columns import needed
from psfharvest.core.catalog.detectors import detector as known_detector
from psfharvest.core.catalog.query import Query
from psfharvest.core.errors import BadInput, BadURI
from psfharvest.core.fits import datauri, keys
from psfharvest.core.model import Limits, Progress
from psfharvest.notebook import arguments, bundlefile, dated, tablerows, verdict
from psfharvest.show.progress import bar

if TYPE_CHECKING:
    from astropy.table import Table
    from numpy import float32
    from numpy.typing import NDArray

__all__ = [
    "convert_dataURIs_to_dataURLs",
    "download_request_bundle",
    "download_request_file",
    "download_request_pool",
    "extract_cutouts_pool",
    "make_dataURIs",
    "mast_query_psf_database",
    "set_filters",
    "set_min_max",
]


def set_min_max(min: float, max: float) -> list[dict[str, float]]:  # noqa: A002 - the notebook's names
    """
    Return a closed range as a filter's values.

    Returns
    -------
    list
        ``[{'min': min, 'max': max}]``.
    """
    return [{"min": min, "max": max}]


def set_filters(parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
    """
    Return filters for a query.

    Parameters
    ----------
    parameters
        Column to a list of values (any of them), or to what `set_min_max` gave.

    Returns
    -------
    list
        ``[{'paramName': column, 'values': values}, ...]``, in the same order.

    Raises
    ------
    TypeError
        When `parameters` is no dict.
    """
    arguments.require(isinstance(parameters, Mapping), "parameters", "dict", parameters)
    return [{"paramName": column, "values": values} for column, values in parameters.items()]


def mast_query_psf_database(
    detector: str,
    filts: list[dict[str, Any]],
    columns: list[str] = ["*"],  # noqa: B006 - the notebook's default; it is only read
) -> Table:
    """
    Query a database for the metadata of its sources, however many there are.

    Parameters
    ----------
    detector
        ``UVIS``, ``IR`` or ``WFPC2``.
    filts
        From `set_filters`; ``filter`` means ``filter_1`` on WFPC2.
    columns
        Which columns; ``['*']`` is all.

    Returns
    -------
    Table
        Sorted by id.

    Raises
    ------
    TypeError
        When `detector` is no string, or one of the others no list.
    BadQuery
        A ValueError: for an unknown detector, column or value.
    ArchiveDown
        When the archive stays out of reach.
    """
    arguments.require(isinstance(detector, str), "detector", "string", detector)
    arguments.require(isinstance(filts, list), "filts", "list", filts)
    arguments.require(isinstance(columns, list), "columns", "list", columns)
    for column in columns:
        arguments.require(isinstance(column, str), "a column", "string", column)
    query = Query.from_filters(detector, filts, columns=columns)
    with _archive() as archive:
        return archive.query(query, progress=False)


def make_dataURIs(  # noqa: N802 - the notebook's name
    obs: Table | Iterable[Any],
    detector: str,
    file_suffix: list[str],
    unsat_size: int = 51,
    sat_size: int = 101,
) -> list[str]:
    """
    Build dataURIs from the metadata of sources: for each row, each suffix.

    A row that gives none (without coordinates, say) is left out, and a warning names it.

    Parameters
    ----------
    obs
        A table from `mast_query_psf_database`, or rows of one.
    detector
        ``UVIS``, ``IR`` or ``WFPC2``.
    file_suffix
        ``raw``, ``flt``, ``flc`` (UVIS only) for WFC3; ``d0m``, ``c0m`` for WFPC2.
    unsat_size, sat_size
        Side of the cutouts, in pixels, of unsaturated and saturated sources.

    Raises
    ------
    TypeError
        When `detector` is no string, `file_suffix` no list, or a size no whole number.
    ValueError
        For an unknown detector or suffix, or one that does not fit the other; for a size that cannot be; and, as
        `psfharvest.BadURI`, when no row gives a dataURI.
    """
    arguments.require(isinstance(detector, str), "detector", "string", detector)
    arguments.require(isinstance(file_suffix, list), "file_suffix", "list", file_suffix)
    place = known_detector(detector)
    suffixes = place.check_suffixes(file_suffix)
    sizes = {
        "unsat_size_px": arguments.whole("unsat_size", unsat_size, 1, 99_999),
        "sat_size_px": arguments.whole("sat_size", sat_size, 1, 99_999),
    }
    rows, n = tablerows.rows_of(obs, needed(place))
    uris: list[str] = []
    refused: list[BadURI] = []
    for row in bar(n, items=rows):
        for suffix in suffixes:
            try:
                uris.append(str(datauri.build_checked(row, place, suffix, **sizes)))
            except BadURI as error:
                refused.append(error)
    if refused and not uris:
        raise refused[0]
    if refused:
        words = f"{len(refused)} of {len(refused) + len(uris)} dataURIs could not be made, the first: {refused[0]}"
        warnings.warn(words, stacklevel=2)
    return uris


def download_request_file(dataURI_filename: Sequence[str]) -> str:  # noqa: N803 - the notebook's name
    """
    Download one cutout to the current folder.

    Parameters
    ----------
    dataURI_filename
        ``[dataURI, filename]``; the name may hold a path.

    Returns
    -------
    str
        The file name.

    Raises
    ------
    TypeError
        When it is no such pair.
    BadInput
        A ValueError: when the first is no dataURI, or the second cannot be written.
    CutoutMissing, CutoutFailed
        When the archive has no such cutout, or did not give it whole; nothing is saved.
    """
    arguments.require(isinstance(dataURI_filename, (list, tuple)), "dataURI_filename", "list", dataURI_filename)
    if len(dataURI_filename) != 2:
        raise BadInput(f"dataURI_filename has {len(dataURI_filename)} parts: [dataURI, filename] is allowed")
    uri, filename = dataURI_filename
    arguments.require(isinstance(uri, str), "the dataURI", "string", uri)
    path = arguments.target(filename)
    with _archive() as archive:
        cutout = archive.fetch(str(uri))
    with bundlefile.whole(path) as file:
        file.write(cutout.raw)
    return filename


def download_request_bundle(dataURIs: list[str], filename: str) -> str:  # noqa: N803 - as above
    """
    Download cutouts into one ``.tar.gz``: ``MAST_<date>/WFC3PSF/<file>``, and a manifest.

    Parameters
    ----------
    dataURIs
        Not empty.
    filename
        Of the ``.tar.gz``.

    Returns
    -------
    str
        The file name. A warning and the bundle's MANIFEST.HTML name what did not come.

    Raises
    ------
    TypeError
        When one of them is of another type.
    BadInput
        A ValueError: for an empty list, a text that is no dataURI, or a name that cannot be written.
    CutoutMissing, CutoutFailed
        When not one cutout came; nothing is saved.
    """
    uris = arguments.uris(dataURIs)
    path = arguments.target(filename)
    statuses = dict.fromkeys(uris, "ERROR")
    with (
        bundlefile.whole(path) as file,
        _archive() as archive,
        archive.stream(uris, progress=False) as cutouts,
    ):
        bundle = bundlefile.BundleFile(file, dated.new_name(Path.cwd()), uris)
        for cutout in cutouts:
            bundle.add(cutout.uri, cutout.raw)
            statuses[cutout.uri] = "OK"
        statuses |= {o.item.uri: f"{o.reason}: {o.detail}"[:500] for o in cutouts.failures}
        reasons = verdict.reasons_of(cutouts.failures)
        lost = verdict.judge(cutouts.states, reasons, "MANIFEST.HTML in the bundle tells which")
        bundle.finish(statuses)
    if lost:
        warnings.warn(lost, stacklevel=2)
    return filename


def download_request_pool(dataURIs: list[str], cpu_count: int = 0) -> str:  # noqa: N803 - as above
    """
    Download cutouts into a new folder, many at a time; after an interrupt the same call goes on with it.

    Parameters
    ----------
    dataURIs
        Not empty.
    cpu_count
        How many connections; 0 is the default (6 to MAST, which gives 10 at most).

    Returns
    -------
    str
        The folder, ``MAST_<date>/WFC3PSF``; or ``MAST_<date>`` alone for dataURIs of several instruments. It is a
        harvest folder: ``psfharvest status``, ``verify`` and ``resume`` know it.

    Raises
    ------
    TypeError
        When one of them is of another type.
    BadInput
        A ValueError: for an empty list, a text that is no dataURI, or a negative `cpu_count`.
    CutoutMissing, CutoutFailed
        When not one cutout came.
    ArchiveDown
        When the archive stayed out of reach; what came is in the folder, and the same call continues.
    KeyboardInterrupt
        Within a second of an interrupt; what came is in the folder, and the same call continues.
    """
    uris = arguments.uris(dataURIs)
    connections = arguments.whole("cpu_count", cpu_count, 0, 10_000)
    folder = dated.folder_of(Path.cwd(), uris)
    with bar(len(uris)) as shown, _archive(connections) as archive:
        report = archive.harvest(folder / dated.LIST_NAME, folder, layout="flat", progress=_shower(shown))
        shown.update(report.total - report.pending - shown.n)
    lost = verdict.judge_report(report, folder.name)
    if lost:
        warnings.warn(lost, stacklevel=2)
    tops = {keys.key_of(uri, datauri.parts_of(uri)).partition("/")[0] for uri in uris}
    return f"{folder.name}/{tops.pop()}" if len(tops) == 1 else folder.name


def convert_dataURIs_to_dataURLs(dataURIs: list[str]) -> list[str]:  # noqa: N802, N803 - as above
    """
    Return where the pixels of cutouts can be read directly.

    Raises
    ------
    TypeError
        When it is no list of strings.
    BadInput
        A ValueError: for an empty list, or a text that is no cutout's dataURI.
    """
    uris = arguments.texts("dataURIs", dataURIs)
    endpoints = Endpoints(_base())
    return [endpoints.data_url(uri) for uri in bar(len(uris), items=uris)]


def extract_cutouts_pool(
    dataURLs: list[str],  # noqa: N803 - as above
    cpu_count: int = 0,
) -> list[NDArray[float32]]:
    """
    Read cutouts from their dataURLs, many at a time; nothing is written to disk.

    Parameters
    ----------
    dataURLs
        From `convert_dataURIs_to_dataURLs`; not empty.
    cpu_count
        How many connections; 0 is the default (6 to MAST, which gives 10 at most).

    Returns
    -------
    list
        Arrays of shape ``(ny, nx)``, in the order of `dataURLs`.

    Raises
    ------
    TypeError
        When one of them is of another type.
    BadInput
        A ValueError: for an empty list, a text that is no dataURL, or a negative `cpu_count`.
    CutoutMissing, CutoutFailed
        When one did not come: a list with gaps would not be in order. The error's `cutouts` has what came, and
        None for what did not.
    """
    urls = arguments.texts("dataURLs", dataURLs)
    connections = arguments.whole("cpu_count", cpu_count, 0, 10_000)
    hosts: dict[str, dict[str, list[int]]] = {}
    for place, url in enumerate(urls):
        base, uri = datauri.from_data_url(url)
        hosts.setdefault(base, {}).setdefault(uri, []).append(place)
    found: list[Any] = [None] * len(urls)
    reasons: Counter[str] = Counter()
    lost = 0
    with bar(len(urls)) as shown:
        for base, wanted in hosts.items():
            with (
                _archive(connections, base=base) as archive,
                archive.stream(wanted, via="fitscut", progress=False) as cutouts,
            ):
                for cutout in cutouts:
                    for place in wanted[cutout.uri]:
                        found[place] = cutout.data
                    shown.update(len(wanted[cutout.uri]))
                reasons += verdict.reasons_of(cutouts.failures)
                lost += verdict.n_lost(cutouts.states)
    if lost:
        raise verdict.error(lost, len(urls), reasons, found)
    return found


def _base() -> str | None:
    return os.environ.get("PSFHARVEST_ARCHIVE") or None


def _archive(connections: int = 0, base: str | None = None) -> blocking.Archive:
    limits = Limits(max_connections=connections or None)
    if base is not None:  # of dataURLs, which need no token
        return blocking.Archive(None if base == datauri.PUBLIC_DATA_URL else base, limits=limits)
    return blocking.Archive(_base(), limits=limits, token=os.environ.get("MAST_API_TOKEN"))


def _shower(shown: Any) -> Callable[[Progress], None]:
    is_first = True

    def show(progress: Progress) -> None:
        nonlocal is_first
        settled = progress.tally.total - progress.tally.pending
        if is_first:  # what an earlier call has had does not count into the speed
            is_first = False
            shown.n = shown.initial = settled
        trouble = f"the archive is down: {progress.outage[:60]}" if progress.outage else ""
        shown.set_postfix_str(trouble, refresh=False)
        shown.update(settled - shown.n)

    return show


def __dir__() -> list[str]:
    return __all__
