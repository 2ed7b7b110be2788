-- One line per committed change, in commit order. A commit is an append here; the changed rows reach their data
-- tables in batches. Lines after setting `folded` with `stored` false are folded in when the file is opened.
-- No index: lines are appended and read in order.
CREATE TABLE IF NOT EXISTS change_log (
    number BIGINT NOT NULL,         -- dense, from 1
    table_name VARCHAR NOT NULL,
    key VARCHAR NOT NULL,
    sequence BIGINT NOT NULL,       -- the stamp: edits, hybrid time, server
    time BIGINT NOT NULL,
    server SMALLINT NOT NULL,
    versions VARCHAR NOT NULL,      -- JSON array: edits by origin, without trailing zeros
    deleted BOOLEAN NOT NULL,
    stored BOOLEAN NOT NULL,        -- true: written to its data table in the same transaction (bulk), no copy here
    record VARCHAR                  -- JSON object by field name, nulls left out (schema version 1: array in order)
);
