-- What those who serve the clients of the broker keep with it, such as sessions and
-- retained messages of MQTT. What keys and values are they say alone.
CREATE TABLE record (
    id INTEGER PRIMARY KEY,
    kind INTEGER NOT NULL,
    "key" BLOB NOT NULL,
    value BLOB NOT NULL,
    UNIQUE (kind, "key")
);
