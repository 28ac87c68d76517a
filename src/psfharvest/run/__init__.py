"""
One harvest of one folder: what is asked flows into the ledger, from there through the engine, and back.

The ledger stands between asking and fetching: `asking` fills it, `run` empties it, `job` is one call of a user's.
"""

from psfharvest.run.job import Job
from psfharvest.run.rows import query_ask
from psfharvest.run.run import Campaign
from psfharvest.run.targets import What, item_of, items_of, queries_of

__all__ = ["Campaign", "Job", "What", "item_of", "items_of", "queries_of", "query_ask"]
