-- Deploys, and the sources of each application's latest one, so that a restart runs the same code.
CREATE TABLE IF NOT EXISTS deployment (
    version BIGINT NOT NULL,
    application VARCHAR NOT NULL,
    base_digest VARCHAR NOT NULL,   -- digest of the profile's code when the deploy came: later edits there win
    deployed BIGINT NOT NULL        -- Unix milliseconds
);
CREATE TABLE IF NOT EXISTS code_table (
    version BIGINT NOT NULL,
    application VARCHAR NOT NULL,
    path VARCHAR NOT NULL,
    source VARCHAR NOT NULL
);
