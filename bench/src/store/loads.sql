-- A load: one run of a load generator, ours or another's. `run` is the run directory or the file that was imported,
-- `folder` the generator's own folder in it; empty where they are the same. What a tool does not tell is NULL.
CREATE TABLE IF NOT EXISTS load (
    run VARCHAR NOT NULL,
    folder VARCHAR NOT NULL,
    tool VARCHAR NOT NULL,
    tool_version VARCHAR,
    -- How the tool counts latency: between which two points, and what it leaves out.
    latency_counted VARCHAR NOT NULL,
    mode VARCHAR,
    url VARCHAR,
    connections UBIGINT,
    started_utc TIMESTAMP,
    duration_s DOUBLE,
    offered_per_s DOUBLE,
    throughput_per_s DOUBLE,
    planned UBIGINT,
    completed UBIGINT,
    failed UBIGINT,
    received_bytes UBIGINT,
    mean_ns DOUBLE,
    min_ns UBIGINT,
    p50_ns UBIGINT,
    p90_ns UBIGINT,
    p95_ns UBIGINT,
    p99_ns UBIGINT,
    p999_ns UBIGINT,
    max_ns UBIGINT,
    -- Every quantile that the tool printed.
    quantiles STRUCT(quantile DOUBLE, value_ns UBIGINT)[] NOT NULL,
    status_counts JSON NOT NULL,
    verdict VARCHAR
);
-- A second of a load of ours: `intervals.csv`. Times count from the start of the measured window.
CREATE TABLE IF NOT EXISTS interval (
    run VARCHAR NOT NULL,
    folder VARCHAR NOT NULL,
    start_s DOUBLE NOT NULL,
    length_s DOUBLE NOT NULL,
    phase VARCHAR NOT NULL,
    planned UBIGINT,
    completed UBIGINT,
    errors UBIGINT,
    timed_out UBIGINT,
    shed UBIGINT,
    in_flight_at_end UBIGINT,
    completed_per_s DOUBLE,
    response_p50_ns UBIGINT,
    response_p90_ns UBIGINT,
    response_p99_ns UBIGINT,
    response_max_ns UBIGINT,
    service_p50_ns UBIGINT,
    service_p99_ns UBIGINT,
    lag_p99_ns UBIGINT,
    queue_p99_ns UBIGINT,
    body_bytes UBIGINT
);
-- A line of a histogram log of ours: `series` says what was measured, `tag` of which requests (NULL: of all).
CREATE TABLE IF NOT EXISTS histogram (
    run VARCHAR NOT NULL,
    folder VARCHAR NOT NULL,
    series VARCHAR NOT NULL,
    tag VARCHAR,
    start_s DOUBLE NOT NULL,
    length_s DOUBLE NOT NULL,
    samples UBIGINT NOT NULL,
    -- The highest value of each bucket that holds samples, and how many it holds.
    buckets STRUCT(value_ns UBIGINT, count UBIGINT)[] NOT NULL,
    -- The same as HdrHistogram V2, compressed, in base64.
    payload VARCHAR NOT NULL
);
-- Files of a run as they are: its records in JSON, the configuration of each system, the output of another's tool.
CREATE TABLE IF NOT EXISTS file (
    run VARCHAR NOT NULL,
    folder VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,
    text VARCHAR NOT NULL
);
