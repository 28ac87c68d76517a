"""
One run over a harvest folder: targets -> manifest -> engine -> sink -> manifest.

`planner` records the targets' dataURIs in the manifest, `run` fetches what is pending, `job` is one call.
"""

from psfharvest.run.job import Job
from psfharvest.run.rows import query_target
from psfharvest.run.run import Run
from psfharvest.run.targets import What, item_of, items_of, queries_of

__all__ = ["Job", "Run", "What", "item_of", "items_of", "queries_of", "query_target"]
