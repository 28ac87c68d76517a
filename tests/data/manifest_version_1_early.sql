PRAGMA application_id = 1347634760;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE ask (
    n INTEGER PRIMARY KEY, kind TEXT NOT NULL, identity TEXT NOT NULL UNIQUE, spec TEXT NOT NULL,
    expected INTEGER, position INTEGER NOT NULL DEFAULT 0, lines INTEGER NOT NULL DEFAULT 0,
    is_complete INTEGER NOT NULL DEFAULT 0
);
INSERT INTO "ask" VALUES(1,'query','["{\"criteria\": [], \"detector\": \"UVIS\", \"limit\": 3}", ["flt"], 51, 101]','{"query": {"detector": "UVIS", "criteria": [], "columns": ["chip", "qfit"], "limit": 3}, "suffixes": ["flt"], "unsat_size_px": 51, "sat_size_px": 101}',3,0,0,1);
INSERT INTO "ask" VALUES(2,'stream','stream','{}',NULL,2,2,1);
CREATE TABLE item (
    n INTEGER PRIMARY KEY, instrument TEXT, rootname TEXT, suffix TEXT, extension INTEGER, size_px INTEGER,
    x TEXT, y TEXT, id INTEGER, filter TEXT, copy INTEGER NOT NULL, source INTEGER,
    other TEXT -- the whole text, where it is no cutout's dataURI
);
INSERT INTO "item" VALUES(1,'WFC3','ibc302ioq','flt',1,51,'99.4127','100.2683',8184981,'F814W',0,1,NULL);
INSERT INTO "item" VALUES(2,'WFC3','ifgzm9f2q','flt',4,51,'3604.0018','2010.0366',8713355,'F606W',0,2,NULL);
INSERT INTO "item" VALUES(3,'WFC3','iepp20nkq','flt',1,51,'100.7316','99.5541',8986399,'F814W',0,3,NULL);
INSERT INTO "item" VALUES(4,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,'mast:HST/product/none_such.fits');
INSERT INTO "item" VALUES(5,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,'not a uri');
CREATE TABLE layout (
    n INTEGER PRIMARY KEY, detector TEXT NOT NULL, columns TEXT NOT NULL, UNIQUE (detector, columns)
);
INSERT INTO "layout" VALUES(1,'UVIS','["chip", "qfit", "id", "rootname", "filter", "subarray", "x_cal", "y_cal", "x_raw", "y_raw"]');
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
INSERT INTO "meta" VALUES('layout','tree');
INSERT INTO "meta" VALUES('low_water',4);
INSERT INTO "meta" VALUES('sink','files');
CREATE TABLE name (digest BLOB NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (digest, n)) WITHOUT ROWID;
INSERT INTO "name" VALUES(X'089ECFC9B1D8EC0C0E445596',5);
INSERT INTO "name" VALUES(X'1889F6BED5219EB22D443B5F',3);
INSERT INTO "name" VALUES(X'703D8120425BF3D0CA871AA5',1);
INSERT INTO "name" VALUES(X'92FD6F0885AEC8AFEE473BFF',2);
INSERT INTO "name" VALUES(X'EA4E188A8FA2CA8F6DACC055',4);
CREATE TABLE outcome (
    n INTEGER PRIMARY KEY, state TEXT NOT NULL, size_bytes INTEGER, sha256 BLOB, attempts INTEGER,
    shard INTEGER, place, -- an offset in the shard; or a path, where it is not the layout's
    reason TEXT, detail TEXT
);
INSERT INTO "outcome" VALUES(1,'done',20160,X'9013B25789F0A4CA62D907C32046A8483DDF5FB3DDED9EBEAF0CBC9242B8291A',1,NULL,NULL,NULL,NULL);
INSERT INTO "outcome" VALUES(2,'done',20160,X'78C536AAE9E11B1A022058D3DF3FC6B356281F1BAC8C44E2A12C04FC095311A2',1,NULL,NULL,NULL,NULL);
INSERT INTO "outcome" VALUES(3,'done',20160,X'4E6928091A93A075E153C5D279C6850BF3ED53B5BDB4E3D0507CB1E5AA3E54AD',1,NULL,NULL,NULL,NULL);
INSERT INTO "outcome" VALUES(4,'missing',NULL,NULL,1,NULL,NULL,'not_found','HTTP 404: File not found: mast:HST/product/none_such.fits');
INSERT INTO "outcome" VALUES(5,'failed',NULL,NULL,0,NULL,NULL,'bad_uri','line 2: a dataURI begins with ''mast:''');
CREATE TABLE part (
    ask INTEGER NOT NULL, low INTEGER NOT NULL, high INTEGER NOT NULL, n_rows INTEGER NOT NULL,
    PRIMARY KEY (ask, low)
) WITHOUT ROWID;
INSERT INTO "part" VALUES(1,-9007199254740991,9007199254740991,3);
CREATE TABLE run (
    n INTEGER PRIMARY KEY, started_at TEXT NOT NULL, elapsed_s REAL NOT NULL DEFAULT 0,
    requests INTEGER NOT NULL DEFAULT 0, retried TEXT NOT NULL DEFAULT '{}', via TEXT NOT NULL DEFAULT '{}',
    stopped TEXT NOT NULL DEFAULT 'unfinished'
);
INSERT INTO "run" VALUES(1,'2026-11-27T04:57:47Z',0.0956637619999583,5,'{}','{}','');
INSERT INTO "run" VALUES(2,'2026-11-27T04:57:47Z',1.51518920001763035543e-02,1,'{}','{}','');
CREATE TABLE source (n INTEGER PRIMARY KEY, layout INTEGER NOT NULL, vals TEXT NOT NULL);
INSERT INTO "source" VALUES(1,1,'["2",0.061,8184981,"ibc302ioq","F814W",0,99.4127,100.2683,124.4127,100.2683]');
INSERT INTO "source" VALUES(2,1,'["1",0.254,8713355,"ifgzm9f2q","F606W",0,3604.0018,2010.0366,3689.0018,2029.0366]');
INSERT INTO "source" VALUES(3,1,'["2",0.048,8986399,"iepp20nkq","F814W",0,100.7316,99.5541,125.7316,99.5541]');
CREATE TABLE tally (
    state TEXT NOT NULL, reason TEXT NOT NULL, n INTEGER NOT NULL, bytes INTEGER NOT NULL,
    PRIMARY KEY (state, reason)
) WITHOUT ROWID;
INSERT INTO "tally" VALUES('asked','',5,0);
INSERT INTO "tally" VALUES('done','',3,60480);
INSERT INTO "tally" VALUES('failed','bad_uri',1,0);
INSERT INTO "tally" VALUES('missing','not_found',1,0);
CREATE INDEX trouble ON outcome (state, n) WHERE state IN ('missing', 'failed');
CREATE VIEW cutout AS
SELECT
    item.n AS n,
    coalesce(item.other, 'mast:' || instrument || 'PSF/url/cgi-bin/fitscut.cgi?red=' || rootname || '_' || suffix
        || '[' || extension || ']&size=' || size_px || '&x=' || x || '&y=' || y || '&format=fits/' || rootname
        || '_' || id || '_' || filter || '_' || suffix || '_cutout.fits') AS uri,
    coalesce(outcome.state, 'pending') AS state,
    CASE
        WHEN outcome.state IS NOT 'done' THEN NULL
        WHEN outcome.shard IS NOT NULL THEN printf('shards/%06d.tar:%d', outcome.shard, outcome.place)
        WHEN outcome.place IS NOT NULL THEN outcome.place
        ELSE instrument || 'PSF/'
            || CASE (SELECT value FROM meta WHERE meta.name = 'layout')
                WHEN 'flat' THEN '' ELSE substr(rootname, 1, 4) || '/' || rootname || '/' END
            || rootname || '_' || id || '_' || filter || '_' || suffix || '_cutout'
            || CASE copy WHEN 0 THEN '' ELSE '-' || (copy + 1) END || '.fits'
    END AS location,
    outcome.size_bytes AS size_bytes,
    lower(hex(outcome.sha256)) AS sha256,
    coalesce(outcome.attempts, 0) AS attempts,
    outcome.reason AS reason,
    outcome.detail AS detail,
    item.size_px AS size_px,
    item.source AS source
FROM item LEFT JOIN outcome ON outcome.n = item.n;
COMMIT;
