-- Common questions.
CREATE OR REPLACE VIEW load_quantile AS
    SELECT run, folder, series, tag, hdr_count(buckets) AS samples, hdr_quantile(buckets, 0.5) AS p50_ns,
           hdr_quantile(buckets, 0.9) AS p90_ns, hdr_quantile(buckets, 0.99) AS p99_ns,
           hdr_quantile(buckets, 0.999) AS p999_ns, hdr_quantile(buckets, 0.9999) AS p9999_ns, hdr_max(buckets) AS max_ns
    FROM (SELECT run, folder, series, tag, hdr_merge(list(buckets)) AS buckets FROM histogram GROUP BY ALL)
    ORDER BY run, folder, series, tag NULLS FIRST;

CREATE OR REPLACE VIEW bucket AS
    SELECT run, folder, series, tag, start_s, bucket.value_ns AS value_ns, bucket.count AS count
    FROM (SELECT run, folder, series, tag, start_s, unnest(buckets) AS bucket FROM histogram);

CREATE OR REPLACE VIEW best_run AS
    SELECT system, work, load, connections, body_bytes, arg_min(run, cpu_us_per_request) AS run,
           min(cpu_us_per_request) AS cpu_us_per_request,
           arg_min(throughput_per_s, cpu_us_per_request) AS throughput_per_s,
           arg_min(p99_ns, cpu_us_per_request) AS p99_ns, count(*) AS runs
    FROM system
    WHERE verdict <> 'invalid'
    GROUP BY system, work, load, connections, body_bytes
    ORDER BY work, load, connections, body_bytes, cpu_us_per_request;

CREATE OR REPLACE VIEW slow_interval AS
    SELECT run, folder, start_s, response_p99_ns, response_max_ns, lag_p99_ns, queue_p99_ns, completed_per_s,
           response_p99_ns / median(response_p99_ns) OVER (PARTITION BY run, folder) AS times_the_median
    FROM interval
    WHERE phase = 'measure' AND response_p99_ns IS NOT NULL
    ORDER BY response_p99_ns DESC;

CREATE OR REPLACE VIEW machine AS
    SELECT run, started_utc, machine->>'cpu_model' AS cpu_model, machine->>'kernel' AS kernel,
           json_array_length(machine->'cores') AS cores, (machine->>'virtualised')::BOOLEAN AS virtualised,
           (machine->>'memory_kib')::UBIGINT AS memory_kib, machine->>'governor' AS governor,
           (machine->>'turbo')::BOOLEAN AS turbo, machine->>'clock_source' AS clock_source,
           (machine->>'load_average_1m')::DOUBLE AS load_average_1m,
           (machine->>'steal_share_in_run')::DOUBLE AS steal_share_in_run
    FROM run
    ORDER BY started_utc;

CREATE OR REPLACE VIEW configuration AS
    SELECT run, folder, name, text FROM file WHERE kind = 'configuration' ORDER BY ALL;

COMMENT ON VIEW load_quantile IS 'quantiles of each load''s histograms, merged over its seconds, by series and tag';
COMMENT ON VIEW bucket IS 'histograms as rows: a value and its count';
COMMENT ON VIEW best_run IS 'for each system and case the run with the least CPU time a request';
COMMENT ON VIEW slow_interval IS 'measured seconds by p99, slowest first, with their p99 as a multiple of the load''s median';
COMMENT ON VIEW machine IS 'the machine card of each run, in columns';
COMMENT ON VIEW configuration IS 'the configuration of each system in each trial, as it was rendered';

COMMENT ON TABLE run IS 'runs of bench: command, commit, seed, machine card, core map';
COMMENT ON TABLE system IS 'a system in one case, over all blocks of a run';
COMMENT ON TABLE trial IS 'one system measured once';
COMMENT ON TABLE ratio IS 'a ÷ b of one metric, with its 95 % interval and verdict';
COMMENT ON TABLE bound IS 'a figure of one system against a limit';
COMMENT ON TABLE dispatch_system IS 'job dispatch, simulated: a policy under one condition';
COMMENT ON TABLE dispatch_ratio IS 'job dispatch, simulated: a ÷ b of one metric';
COMMENT ON TABLE dispatch_trial IS 'job dispatch, live: the appliance under one policy, measured once';
COMMENT ON TABLE figure IS 'jobs mesh and replication: a metric of a system in a case, the mean over the blocks';
COMMENT ON TABLE figure_ratio IS 'jobs mesh and replication: a ÷ b of one metric';
COMMENT ON TABLE load IS 'one run of a load generator, ours or another''s, with how it counts latency';
COMMENT ON TABLE interval IS 'a second of a load of ours';
COMMENT ON TABLE histogram IS 'a second of a load of ours as a histogram, by series and tag: buckets, and the V2 payload';
COMMENT ON TABLE file IS 'files of a run as they are: records in JSON, configurations, outputs of other tools';
