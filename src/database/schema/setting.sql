-- Facts about this file: schema version, session key, last change that reached its data table.
CREATE TABLE IF NOT EXISTS setting (
    name VARCHAR PRIMARY KEY,
    value VARCHAR NOT NULL
);
