"""
One harvest of one folder: what is asked flows into the ledger, from there through the engine, and back.

The ledger stands between asking and fetching. `asking` fills it, `run` empties it; `disk` is their way to it.
"""

from psfharvest.campaign.asking import Uris
from psfharvest.campaign.rows import query_ask, uris_of
from psfharvest.campaign.run import Campaign

__all__ = ["Campaign", "Uris", "query_ask", "uris_of"]
