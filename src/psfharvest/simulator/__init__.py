"""
The archive, simulated on loopback: queries, cutouts and bundles as MAST serves them, and faults on demand.

Rule: nothing here imports anything else of psfharvest, for an archive shares no code with its clients;
and uvicorn is imported only when a server starts.
"""

from psfharvest.simulator.catalog.catalogue import Catalogue
from psfharvest.simulator.catalog.table import Source, Table
from psfharvest.simulator.faults.faults import KINDS, Fault
from psfharvest.simulator.http.asgi import AsgiArchive, asgi
from psfharvest.simulator.http.record import Record, Seen
from psfharvest.simulator.http.server import Simulator, serve
from psfharvest.simulator.oddities.table import ODDITIES, Oddity
from psfharvest.simulator.settings import Settings
from psfharvest.simulator.sky.optics import fwhm_px
from psfharvest.simulator.sky.order import FitscutError

__all__ = [
    "KINDS",
    "ODDITIES",
    "AsgiArchive",
    "Catalogue",
    "Fault",
    "FitscutError",
    "Oddity",
    "Record",
    "Seen",
    "Settings",
    "Simulator",
    "Source",
    "Table",
    "asgi",
    "fwhm_px",
    "serve",
]
