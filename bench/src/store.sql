-- All runs. `run` is the run directory, relative to where `bench` was started.
CREATE TABLE IF NOT EXISTS run (
    run VARCHAR PRIMARY KEY,
    kind VARCHAR NOT NULL,
    started_utc TIMESTAMP NOT NULL,
    command VARCHAR NOT NULL,
    commit_hash VARCHAR NOT NULL,
    seed VARCHAR,
    machine JSON NOT NULL,
    cores JSON NOT NULL
);
-- A system in one case, over all blocks of a run.
CREATE TABLE IF NOT EXISTS system (
    run VARCHAR NOT NULL,
    system VARCHAR NOT NULL,
    version VARCHAR NOT NULL,
    connections UINTEGER NOT NULL,
    blocks UINTEGER NOT NULL,
    requests UBIGINT NOT NULL,
    failed UBIGINT NOT NULL,
    throughput_per_s DOUBLE NOT NULL,
    cpu_us_per_request DOUBLE NOT NULL,
    p50_ns UBIGINT,
    p99_ns UBIGINT,
    p999_ns UBIGINT,
    verdict VARCHAR NOT NULL
);
-- One system measured once.
CREATE TABLE IF NOT EXISTS trial (
    run VARCHAR NOT NULL,
    system VARCHAR NOT NULL,
    connections UINTEGER NOT NULL,
    block UINTEGER NOT NULL,
    turn UINTEGER NOT NULL,
    requests UBIGINT NOT NULL,
    failed UBIGINT NOT NULL,
    window_s DOUBLE NOT NULL,
    throughput_per_s DOUBLE NOT NULL,
    cpu_us_per_request DOUBLE NOT NULL,
    p50_ns UBIGINT,
    p99_ns UBIGINT,
    p999_ns UBIGINT,
    generator_cpu_us_per_request DOUBLE,
    verdict VARCHAR NOT NULL
);
-- a ÷ b of one metric with its 95 % interval.
CREATE TABLE IF NOT EXISTS ratio (
    run VARCHAR NOT NULL,
    a VARCHAR NOT NULL,
    b VARCHAR NOT NULL,
    metric VARCHAR NOT NULL,
    connections UINTEGER NOT NULL,
    ratio DOUBLE,
    ci_low DOUBLE,
    ci_high DOUBLE,
    blocks UINTEGER NOT NULL,
    verdict VARCHAR NOT NULL
);
-- Files of before there were cases.
ALTER TABLE system ADD COLUMN IF NOT EXISTS work VARCHAR;
ALTER TABLE system ADD COLUMN IF NOT EXISTS load VARCHAR;
ALTER TABLE system ADD COLUMN IF NOT EXISTS body_bytes UBIGINT;
ALTER TABLE system ADD COLUMN IF NOT EXISTS idle_connections UINTEGER;
ALTER TABLE system ADD COLUMN IF NOT EXISTS user_bytes_per_connection DOUBLE;
ALTER TABLE trial ADD COLUMN IF NOT EXISTS work VARCHAR;
ALTER TABLE trial ADD COLUMN IF NOT EXISTS load VARCHAR;
ALTER TABLE trial ADD COLUMN IF NOT EXISTS body_bytes UBIGINT;
ALTER TABLE trial ADD COLUMN IF NOT EXISTS idle_connections UINTEGER;
ALTER TABLE trial ADD COLUMN IF NOT EXISTS rate_per_s DOUBLE;
ALTER TABLE ratio ADD COLUMN IF NOT EXISTS work VARCHAR;
ALTER TABLE ratio ADD COLUMN IF NOT EXISTS load VARCHAR;
ALTER TABLE ratio ADD COLUMN IF NOT EXISTS body_bytes UBIGINT;
ALTER TABLE ratio ADD COLUMN IF NOT EXISTS idle_connections UINTEGER;
ALTER TABLE ratio ADD COLUMN IF NOT EXISTS target DOUBLE;
ALTER TABLE ratio ADD COLUMN IF NOT EXISTS holds VARCHAR;
-- A figure of one system against a bound.
CREATE TABLE IF NOT EXISTS bound (
    run VARCHAR NOT NULL,
    system VARCHAR NOT NULL,
    metric VARCHAR NOT NULL,
    measured_in VARCHAR NOT NULL,
    value DOUBLE,
    ci_low DOUBLE,
    ci_high DOUBLE,
    target DOUBLE NOT NULL,
    holds VARCHAR NOT NULL
);
-- `compare --job dispatch`, simulated: a policy or `ideal` under one condition, over all blocks.
CREATE TABLE IF NOT EXISTS dispatch_system (
    run VARCHAR NOT NULL,
    system VARCHAR NOT NULL,
    service VARCHAR NOT NULL,
    servers UBIGINT NOT NULL,
    load_percent UINTEGER NOT NULL,
    requests UBIGINT NOT NULL,
    mean_ns DOUBLE NOT NULL,
    p50_ns UBIGINT NOT NULL,
    p99_ns UBIGINT NOT NULL,
    p999_ns UBIGINT NOT NULL,
    outstanding_seen UINTEGER NOT NULL
);
-- The same, a ÷ b of one metric with its 95 % interval. The largest load that keeps p99 within 10 mean service times
-- is the metric `capacity`, for which load_percent is a's own.
CREATE TABLE IF NOT EXISTS dispatch_ratio (
    run VARCHAR NOT NULL,
    a VARCHAR NOT NULL,
    b VARCHAR NOT NULL,
    metric VARCHAR NOT NULL,
    service VARCHAR NOT NULL,
    servers UBIGINT NOT NULL,
    load_percent DOUBLE NOT NULL,
    ratio DOUBLE,
    ci_low DOUBLE,
    ci_high DOUBLE,
    verdict VARCHAR
);
-- The same, live: the appliance under one policy, measured once.
CREATE TABLE IF NOT EXISTS dispatch_trial (
    run VARCHAR NOT NULL,
    policy VARCHAR NOT NULL,
    block UINTEGER NOT NULL,
    turn UINTEGER NOT NULL,
    requests UBIGINT NOT NULL,
    failed UBIGINT NOT NULL,
    p50_ns UBIGINT,
    p99_ns UBIGINT,
    p999_ns UBIGINT,
    slow_requests UBIGINT NOT NULL,
    slow_p50_ns UBIGINT,
    cpu_us_per_request DOUBLE NOT NULL,
    verdict VARCHAR NOT NULL
);
-- `compare --job mesh` and `--job replication`: a metric of a system in a case, the mean over all blocks of a run.
CREATE TABLE IF NOT EXISTS figure (
    run VARCHAR NOT NULL,
    job VARCHAR NOT NULL,
    system VARCHAR NOT NULL,
    version VARCHAR,
    measured_in VARCHAR NOT NULL,
    metric VARCHAR NOT NULL,
    blocks UINTEGER NOT NULL,
    value DOUBLE NOT NULL,
    ci_low DOUBLE,
    ci_high DOUBLE
);
-- The same, a ÷ b with its 95 % interval.
CREATE TABLE IF NOT EXISTS figure_ratio (
    run VARCHAR NOT NULL,
    job VARCHAR NOT NULL,
    a VARCHAR NOT NULL,
    b VARCHAR NOT NULL,
    measured_in VARCHAR NOT NULL,
    metric VARCHAR NOT NULL,
    ratio DOUBLE,
    ci_low DOUBLE,
    ci_high DOUBLE,
    blocks UINTEGER NOT NULL,
    verdict VARCHAR NOT NULL,
    target DOUBLE,
    holds VARCHAR
);
