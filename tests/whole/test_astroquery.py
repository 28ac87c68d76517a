"""astroquery, which nobody here wrote, takes the simulator for the archive, and gets the same table as we do."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from psfharvest import Archive, Query
from psfharvest.simulator import Settings, Simulator


@pytest.fixture
def astroquery_portal(simulator: Simulator):
    """astroquery's portal client, pointed at the simulator."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from astroquery.mast.discovery_portal import PortalAPI
    portal = PortalAPI()
    portal.MAST_REQUEST_URL = f"{simulator.url}/api/v0/invoke"
    portal.COLUMNS_CONFIG_URL = f"{simulator.url}/portal/Mashup/Mashup.asmx/columnsconfig"
    return portal


@pytest.mark.parametrize("columns", ["*", "id,rootname,chip,qfit,focus,n_sat_pixels,x_cal"])
@pytest.mark.parametrize("detector", ["UVIS", "IR", "WFPC2"])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_same_table(astroquery_portal, simulator: Simulator, detector: str, columns: str) -> None:
    """Names, types, masks and values are equal, column by column."""
    query = Query(detector, n_sat_pixels=0, psf_x_center=(100, 700), columns=columns.split(","))
    params = {
        "columns": columns,
        "filters": [
            {"paramName": "n_sat_pixels", "values": ["0"]},
            {"paramName": "psf_x_center", "values": [{"min": 100, "max": 700}]},
        ],
    }
    theirs = astroquery_portal.service_request(query.detector.service, params, pagesize=50_000, page=1)
    theirs.sort("id")
    async with Archive(simulator.url) as archive:
        ours = await archive.query(query)

    assert len(theirs) > 20
    assert theirs.colnames == ours.colnames
    for name in theirs.colnames:
        assert theirs[name].dtype.kind == ours[name].dtype.kind, name
        assert np.array_equal(np.ma.getmaskarray(theirs[name]), np.ma.getmaskarray(ours[name])), name
        if theirs[name].dtype.kind == "f":
            assert np.array_equal(theirs[name].data, ours[name].data, equal_nan=True), name
        else:
            assert theirs[name].tolist() == ours[name].tolist(), name


def test_settings_are_the_archives(simulator: Simulator) -> None:
    """The simulator of these tests caps its answers as the archive does."""
    assert Settings().max_answer_rows == simulator.settings.max_answer_rows == 50_000
