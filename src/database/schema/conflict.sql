-- Losers of conflicting edits: kept, never dropped.
CREATE TABLE IF NOT EXISTS conflict (
    table_name VARCHAR NOT NULL,
    key VARCHAR NOT NULL,
    sequence BIGINT NOT NULL,
    time BIGINT NOT NULL,
    server SMALLINT NOT NULL,
    versions VARCHAR NOT NULL,
    deleted BOOLEAN NOT NULL,
    record VARCHAR,                 -- as in the change log
    found BIGINT NOT NULL           -- Unix milliseconds
);
