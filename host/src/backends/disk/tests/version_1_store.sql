PRAGMA application_id = 2003858786;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE event (
    number INTEGER PRIMARY KEY,
    topic INTEGER NOT NULL,
    time INTEGER NOT NULL,
    qos INTEGER NOT NULL,
    size INTEGER NOT NULL,
    publisher TEXT,
    id TEXT NOT NULL,
    source TEXT NOT NULL,
    type TEXT NOT NULL,
    content_type TEXT,
    ordering_key TEXT,
    attributes TEXT,
    data BLOB NOT NULL
);
INSERT INTO "event" VALUES(1,1,1700000000001,1,34,'me','1','test','tested','text/plain','key','[["k","v"],["k","é"]]',X'6669727374');
INSERT INTO "event" VALUES(3,2,1700000000003,2,13,NULL,'3','test','tested',NULL,NULL,NULL,X'FF00');
CREATE TABLE last (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    number INTEGER NOT NULL,
    time INTEGER NOT NULL
);
INSERT INTO "last" VALUES(1,4,1700000000004);
CREATE TABLE once (
    number INTEGER PRIMARY KEY,
    hash BLOB NOT NULL,
    until INTEGER NOT NULL
);
INSERT INTO "once" VALUES(3,X'0123456789ABCDEF0123456789ABCDEF',1700000120003);
CREATE TABLE open (
    subscription INTEGER NOT NULL,
    number INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    PRIMARY KEY (subscription, number)
) WITHOUT ROWID;
INSERT INTO "open" VALUES(1,1,2);
CREATE TABLE snapshot (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    filter TEXT NOT NULL,
    created INTEGER NOT NULL,
    next INTEGER NOT NULL
);
INSERT INTO "snapshot" VALUES(1,'before','a/+',1700000000004,3);
CREATE TABLE snapshot_open (
    snapshot INTEGER NOT NULL,
    number INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    PRIMARY KEY (snapshot, number)
) WITHOUT ROWID;
INSERT INTO "snapshot_open" VALUES(1,1,2);
CREATE TABLE subscription (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    filter TEXT NOT NULL,
    "group" TEXT,
    event_filter TEXT,
    qos INTEGER NOT NULL,
    not_from TEXT,
    created INTEGER NOT NULL,
    used INTEGER NOT NULL,
    expiry INTEGER,
    next INTEGER NOT NULL
);
INSERT INTO "subscription" VALUES(1,'one','a/+','g','attributes.k = "v"',1,NULL,1700000000000,1700000000004,86400000,3);
CREATE TABLE topic (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    events INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    first_number INTEGER NOT NULL,
    first_time INTEGER NOT NULL,
    last_number INTEGER NOT NULL,
    last_time INTEGER NOT NULL
);
INSERT INTO "topic" VALUES(1,'a/b',1,34,1,1700000000001,1,1700000000001);
INSERT INTO "topic" VALUES(2,'a/c',1,13,3,1700000000003,3,1700000000003);
CREATE INDEX event_of_topic ON event (topic);
COMMIT;
