"""The SQL of a merge: ``main`` is the merged manifest, ``s`` the source's that is attached to it."""

from __future__ import annotations

from typing import NamedTuple

from psfharvest.store.manifest.tally import ASKED, QUIRK

WORDS = ("instrument", "rootname", "suffix", "extension", "size_px", "x", "y", "id", "filter", "other")
"""Columns of an item that make its dataURI."""
WORKING = ("merge_taking", "merge_shard", "merge_name")
"""Tables that the merged manifest has no more when it is finished."""
RANK = "CASE {}.state WHEN 'done' THEN 3 WHEN 'missing' THEN 2 WHEN 'failed' THEN 1 ELSE 0 END"
MAKE_WORKING = """
DROP TABLE IF EXISTS temp.merge_number;
DROP TABLE IF EXISTS temp.merge_renamed;
DROP TABLE IF EXISTS main.merge_taking;
DROP TABLE IF EXISTS main.merge_shard;
-- the source's items: their numbers there and here, and whether they were not asked for before
CREATE TEMP TABLE merge_number (old INTEGER PRIMARY KEY, new INTEGER NOT NULL, is_new INTEGER NOT NULL);
-- items whose file name another dataURI has already
CREATE TEMP TABLE merge_renamed (old INTEGER PRIMARY KEY, copy INTEGER NOT NULL);
-- what the source has claimed as done, and is to be claimed here once its bytes are stored
CREATE TABLE merge_taking (old INTEGER PRIMARY KEY, new INTEGER NOT NULL, shard INTEGER);
CREATE INDEX merge_by_shard ON merge_taking (shard, old);
-- its shards, or Parquet files of one side: with a shift, all that the source claims of it, from item `low` to item
-- `high`, is to be claimed, under numbers that are so much higher; without one, what merge_taking lists
CREATE TABLE merge_shard (
    shard INTEGER NOT NULL, size_px INTEGER, is_whole INTEGER NOT NULL, end INTEGER NOT NULL,
    low INTEGER NOT NULL, high INTEGER NOT NULL, n INTEGER NOT NULL, shift INTEGER
)
"""


class Numbering(NamedTuple):
    """How new items of the source are numbered: ``{}`` is the alias of the table that has their old numbers."""

    new: str
    """Their numbers here."""
    join: str
    """What is joined for that."""
    copy: str = "{}.copy"
    """How often their file names were there before."""


SHIFTED = Numbering("{}.n + :shift", "")
"""Where none is known or renamed, and the source's numbers have no holes."""
LISTED = Numbering(
    "k.new",
    "CROSS JOIN merge_number k ON k.old = {}.n AND k.is_new",
    "coalesce((SELECT r.copy FROM merge_renamed r WHERE r.old = {0}.n), {0}.copy)",
)
"""By the table `merge_number`."""

# s.name is walked in its own order, so that main.name is, too
FIND_KNOWN = f"""
INSERT INTO merge_number
SELECT si.n, gi.n, 0 FROM s.name sn CROSS JOIN main.name gn ON gn.digest = sn.digest
CROSS JOIN s.item si ON si.n = sn.n CROSS JOIN main.item gi ON gi.n = gn.n
WHERE {" AND ".join(f"si.{word} IS gi.{word}" for word in WORDS)}
"""  # noqa: S608 - no value in it
# without holes: who reads a folder counts on that
NUMBER_NEW = """
INSERT INTO merge_number
SELECT n, :shift + row_number() OVER (ORDER BY n), 1 FROM s.item WHERE n NOT IN (SELECT old FROM merge_number)
"""
HAS_HOLES = "SELECT count(*) < max(n) FROM s.item"
FIND_RENAMED = """
INSERT INTO merge_renamed
SELECT new.n, new.copy FROM (
    SELECT n, n_before - 1 + row_number() OVER (PARTITION BY digest ORDER BY n) AS copy FROM (
        SELECT sn.digest AS digest, sn.n AS n, count(*) AS n_before
        FROM s.name sn CROSS JOIN main.name gn ON gn.digest = sn.digest
        WHERE sn.n NOT IN (SELECT old FROM merge_number) GROUP BY sn.digest, sn.n
    )
) new JOIN s.item si ON si.n = new.n WHERE si.copy <> new.copy
"""
# whole blocks, since they are not decoded: of the rows that come along, nobody asks for those without an item
WANTED_BLOCKS = """
WHERE b.first IN (
    SELECT (SELECT max(p.first) FROM s.block p WHERE p.first <= si.source)
    FROM merge_number k CROSS JOIN s.item si ON si.n = k.old
    LEFT JOIN main.item gi ON gi.n = k.new WHERE gi.source IS NULL AND si.source IS NOT NULL
)
"""
# items outside all stretches are looked up one by one, so that to take none is right, too
TAKE_SPANS = """
INSERT INTO main.source_span (first, n, source, per)
SELECT first + :items, n, source + :sources, per FROM s.source_span
WHERE NOT EXISTS (SELECT 1 FROM merge_number WHERE new <> old + :items)
"""
GIVE_SOURCES = """
UPDATE main.item SET source = (
    SELECT si.source + :shift FROM merge_number k JOIN s.item si ON si.n = k.old WHERE k.new = main.item.n
) WHERE source IS NULL AND n IN (SELECT new FROM merge_number WHERE NOT is_new)
"""
# of items that are known already, what is better than the outcome here
FIND_TAKING = f"""
INSERT INTO merge_taking
SELECT o.n, k.new, CASE o.state WHEN 'done' THEN o.shard END FROM s.outcome o
JOIN merge_number k ON k.old = o.n LEFT JOIN main.outcome g ON g.n = k.new
WHERE k.is_new OR {RANK.format("o")} > {RANK.format("g")}
"""  # noqa: S608 - no value in it
# cutouts with files of their own
TAKE_FILES = """
INSERT INTO merge_taking SELECT n, n + :shift, NULL FROM s.outcome WHERE state = 'done' AND shard IS NULL
"""
_END = "coalesce(max(CASE WHEN typeof(o.place) = 'integer' THEN o.place + o.size_bytes END), 0)"
FIND_WHOLE_SHARDS = f"""
INSERT INTO merge_shard
SELECT o.shard, si.size_px, 1, {_END}, min(o.n), max(o.n), count(*), :shift
FROM s.outcome o CROSS JOIN s.item si ON si.n = o.n
WHERE o.state = 'done' AND o.shard IS NOT NULL GROUP BY o.shard, si.size_px
"""  # noqa: S608 - no value in it
FIND_SHARDS = f"""
INSERT INTO merge_shard
SELECT o.shard, si.size_px, count(*) = count(t.old) AND count(r.old) = 0, {_END}, min(o.n), max(o.n), count(*), NULL
FROM s.outcome o CROSS JOIN s.item si ON si.n = o.n
LEFT JOIN merge_taking t ON t.old = o.n LEFT JOIN merge_renamed r ON r.old = o.n
WHERE o.state = 'done' AND o.shard IS NOT NULL GROUP BY o.shard, si.size_px
"""  # noqa: S608 - no value in it
STRETCH = "SELECT shift, min(low), max(high) FROM merge_shard WHERE shard = ?"
STORED = "s.outcome o WHERE o.n BETWEEN :low AND :high AND o.shard = :old AND o.state = 'done'"
"""Of a shard that has a shift, the outcomes."""
UNSTORED = "s.outcome o WHERE o.state IN ('missing', 'failed')"
TAKEN = "merge_taking t CROSS JOIN s.outcome o ON o.n = t.old WHERE {}"
LIST_SHARD = f"INSERT INTO merge_taking SELECT o.n, o.n + :shift, o.shard FROM {STORED}"  # noqa: S608
SHARDS_LEFT = """
SELECT shard, size_px, is_whole, end FROM merge_shard m
WHERE shift IS NOT NULL OR EXISTS (SELECT 1 FROM merge_taking t WHERE t.shard = m.shard) ORDER BY shard
"""
COUNT_TAKING = """
SELECT (SELECT count(*) FROM merge_taking) + (SELECT coalesce(sum(n), 0) FROM merge_shard WHERE shift IS NOT NULL)
"""
TAKE_PARTS = """
INSERT INTO main.part (ask, low, high, n_rows)
SELECT :new, low, high, n_rows FROM s.part p WHERE ask = :old AND NOT EXISTS (
    SELECT 1 FROM main.part g WHERE g.ask = :new AND g.low <= p.high AND g.high >= p.low
)
"""
MAKE_NAMES = "CREATE TABLE IF NOT EXISTS merge_name (digest BLOB NOT NULL, n INTEGER NOT NULL)"
# sorted, so that the tree grows at its end
FILL_NAMES = "INSERT INTO name SELECT digest, n FROM merge_name ORDER BY digest, n"
COUNT = f"""
DELETE FROM tally;
INSERT INTO tally SELECT '{ASKED}', '', count(*), 0 FROM item;
INSERT INTO tally SELECT state, '', count(*), sum(size_bytes) FROM outcome WHERE state = 'done' HAVING count(*);
INSERT INTO tally SELECT state, coalesce(reason, ''), count(*), coalesce(sum(size_bytes), 0) FROM outcome
    WHERE state IN ('missing', 'failed') GROUP BY state, coalesce(reason, '');
INSERT INTO tally SELECT '{QUIRK}', quirk, count(*), 0 FROM outcome WHERE quirk IS NOT NULL GROUP BY quirk
"""  # noqa: S608 - no value in it

ADD_RUN = """
INSERT INTO run (started_at, elapsed_s, requests, stopped) VALUES (:started_at, :elapsed_s, :requests, '')
"""
"""Adds a run that no source has: of the plan of parts."""

FORGET = "DELETE FROM pulse;\nDELETE FROM note"
"""Drops what goes by numbers of runs, which a merge changes."""
