-- Facts about this schema: its version, the session key.
CREATE TABLE setting (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);
-- One line per committed change. Writers hold one lock from their first read to the commit, so positions are in the
-- order of commits: what is seen behind a position is all that will ever be there. Numbers of undone transactions are
-- missing and stay so.
CREATE TABLE change_log (
    position BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    appliance TEXT NOT NULL,        -- who wrote it: one run of one appliance
    table_name TEXT NOT NULL,
    key TEXT NOT NULL,
    sequence BIGINT NOT NULL,       -- the stamp: edits, hybrid time, server
    time BIGINT NOT NULL,
    server SMALLINT NOT NULL,
    versions TEXT NOT NULL,         -- JSON array: edits by origin, without trailing zeros
    deleted BOOLEAN NOT NULL,
    stored BOOLEAN NOT NULL,        -- true: by a bulk write; the record is in its data table and not here
    record TEXT                     -- JSON object by field name, nulls left out
);
-- Losers of conflicting edits: kept, never dropped.
CREATE TABLE conflict (
    table_name TEXT NOT NULL,
    key TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    time BIGINT NOT NULL,
    server SMALLINT NOT NULL,
    versions TEXT NOT NULL,
    deleted BOOLEAN NOT NULL,
    record TEXT,                    -- as in the change log
    found BIGINT NOT NULL           -- Unix milliseconds
);
-- Deploys, and the sources of each application's latest one, so that a restart runs the same code.
CREATE TABLE deployment (
    version BIGINT NOT NULL,
    application TEXT NOT NULL,
    base_digest TEXT NOT NULL,      -- digest of the profile's code when the deploy came: later edits there win
    deployed BIGINT NOT NULL        -- Unix milliseconds
);
CREATE TABLE code_table (
    version BIGINT NOT NULL,
    application TEXT NOT NULL,
    path TEXT NOT NULL,
    source TEXT NOT NULL
);
-- The appliances that share this database, and some that did. Each holds a lock on its number as long as it is alive.
CREATE TABLE appliance (
    number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run TEXT NOT NULL,              -- as in the change log
    name TEXT NOT NULL,             -- the profile's cluster.name
    started BIGINT NOT NULL,        -- Unix milliseconds by the database's clock
    position BIGINT NOT NULL        -- the last change log line that it has read, told once a second
);
