"""The SQL of a merge: ``main`` is the merged manifest, ``s`` the copy of a source's that is attached to it."""

from __future__ import annotations

from psfharvest.store.manifest.tally import ASKED, QUIRK

WORDS = ("instrument", "rootname", "suffix", "extension", "size_px", "x", "y", "id", "filter", "other")
"""Columns of an item that make its dataURI."""
WORKING = ("merge_number", "merge_renamed", "merge_taking", "merge_shard", "merge_name")
RANK = "CASE {}.state WHEN 'done' THEN 3 WHEN 'missing' THEN 2 WHEN 'failed' THEN 1 ELSE 0 END"
MAKE_WORKING = """
DROP TABLE IF EXISTS merge_number;
DROP TABLE IF EXISTS merge_renamed;
DROP TABLE IF EXISTS merge_taking;
DROP TABLE IF EXISTS merge_shard;
-- the source's items: their numbers there and here, and whether they were not asked for before
CREATE TABLE merge_number (old INTEGER PRIMARY KEY, new INTEGER NOT NULL, is_new INTEGER NOT NULL);
-- items whose file name another dataURI has already
CREATE TABLE merge_renamed (old INTEGER PRIMARY KEY, copy INTEGER NOT NULL);
-- what the source has claimed as done, and is to be claimed here once its bytes are stored
CREATE TABLE merge_taking (old INTEGER PRIMARY KEY, new INTEGER NOT NULL, shard INTEGER);
CREATE TABLE merge_shard (shard INTEGER PRIMARY KEY, is_whole INTEGER NOT NULL)
"""
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
# the same where none is known and the source has no holes, in half the time
NUMBER_ALL = "INSERT INTO merge_number SELECT n, n + :shift, 1 FROM s.item ORDER BY n"
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
TAKE_ALL = """
INSERT INTO merge_taking
SELECT o.n, k.new, CASE o.state WHEN 'done' THEN o.shard END FROM s.outcome o JOIN merge_number k ON k.old = o.n
"""
# of items that are known already, what is better than the outcome here
FIND_TAKING = f"""
INSERT INTO merge_taking
SELECT o.n, k.new, CASE o.state WHEN 'done' THEN o.shard END FROM s.outcome o
JOIN merge_number k ON k.old = o.n LEFT JOIN main.outcome g ON g.n = k.new
WHERE k.is_new OR {RANK.format("o")} > {RANK.format("g")}
"""  # noqa: S608 - no value in it
FIND_SHARDS = """
INSERT INTO merge_shard
SELECT o.shard, count(*) = count(t.old) AND count(r.old) = 0 FROM s.outcome o
LEFT JOIN merge_taking t ON t.old = o.n LEFT JOIN merge_renamed r ON r.old = o.n
WHERE o.shard IS NOT NULL AND o.state = 'done' GROUP BY o.shard HAVING count(t.old) > 0
"""
TAKE_PARTS = """
INSERT INTO main.part (ask, low, high, n_rows)
SELECT :new, low, high, n_rows FROM s.part p WHERE ask = :old AND NOT EXISTS (
    SELECT 1 FROM main.part g WHERE g.ask = :new AND g.low <= p.high AND g.high >= p.low
)
"""
MAKE_NAMES = "CREATE TABLE IF NOT EXISTS merge_name (digest BLOB NOT NULL, n INTEGER NOT NULL)"
TAKE_NAMES = """
INSERT INTO {} SELECT sn.digest, k.new FROM s.name sn CROSS JOIN merge_number k ON k.old = sn.n WHERE k.is_new
"""
# sorted, so that the tree grows at its end
FILL_NAMES = "INSERT INTO name SELECT digest, n FROM merge_name ORDER BY digest, n"
COUNT = f"""
DELETE FROM tally;
INSERT INTO tally SELECT '{ASKED}', '', count(*), 0 FROM item;
INSERT INTO tally SELECT state, coalesce(reason, ''), count(*), coalesce(sum(size_bytes), 0) FROM outcome
    GROUP BY state, coalesce(reason, '');
INSERT INTO tally SELECT '{QUIRK}', quirk, count(*), 0 FROM outcome WHERE quirk IS NOT NULL GROUP BY quirk
"""  # noqa: S608 - no value in it

ADD_RUN = """
INSERT INTO run (started_at, elapsed_s, requests, stopped) VALUES (:started_at, :elapsed_s, :requests, '')
"""
"""Adds a run that no source has: of the plan of parts."""

FORGET = "DELETE FROM pulse;\nDELETE FROM note"
"""Drops what goes by numbers of runs, which a merge changes."""
