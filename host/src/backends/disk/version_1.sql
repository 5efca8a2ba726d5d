-- What was given last: the number and the time (all times: milliseconds since
-- 1970, UTC) of an event.
CREATE TABLE last (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    number INTEGER NOT NULL,
    time INTEGER NOT NULL
);
INSERT INTO last VALUES (1, 0, 0);

-- The topics that have events here, with what they have.
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

-- The events. `attributes`: a list of pairs, as JSON. `size`: what counts against
-- limits. `publisher`: who published it, where a subscription may not want that.
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
CREATE INDEX event_of_topic ON event (topic);

-- The subscriptions. What is below `next` is done, but what is open. `next`: the
-- lowest number that was never taken. `expiry`: milliseconds without a subscriber.
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
-- What was taken and is not acknowledged. `attempt`: that which is next.
CREATE TABLE open (
    subscription INTEGER NOT NULL,
    number INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    PRIMARY KEY (subscription, number)
) WITHOUT ROWID;

-- Positions that were given a name.
CREATE TABLE snapshot (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    filter TEXT NOT NULL,
    created INTEGER NOT NULL,
    next INTEGER NOT NULL
);
CREATE TABLE snapshot_open (
    snapshot INTEGER NOT NULL,
    number INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    PRIMARY KEY (snapshot, number)
) WITHOUT ROWID;

-- What may not be published a second time: the number of the first, the hash that
-- it is known by, and until when.
CREATE TABLE once (
    number INTEGER PRIMARY KEY,
    hash BLOB NOT NULL,
    until INTEGER NOT NULL
);
