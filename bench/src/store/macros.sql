-- Histograms in SQL: `buckets` is a column of `histogram`, or what `hdr_merge` makes of several. Values are the highest
-- of their bucket, so a quantile is the same number that HdrHistogram's libraries give.
CREATE OR REPLACE MACRO hdr_count(buckets) AS
    coalesce(list_sum(list_transform(buckets, lambda bucket: bucket.count)), 0)::UBIGINT;

-- One pass over the list: a window over its elements would be quadratic.
CREATE OR REPLACE MACRO hdr_quantile(buckets, quantile) AS (
    SELECT CASE WHEN len(list) > 0 THEN
        list_reduce(
            list,
            lambda before, bucket: CASE
                WHEN before.count >= rank THEN before
                ELSE {'value_ns': bucket.value_ns, 'count': before.count + bucket.count}
            END,
            {'value_ns': 0::UBIGINT, 'count': 0::UBIGINT}
        ).value_ns
    END
    FROM (
        SELECT list, greatest(1, ceil(least(share, 1.0) * hdr_count(list)::DOUBLE)) AS rank
        FROM (SELECT buckets AS list, quantile::DOUBLE AS share)
    )
);

CREATE OR REPLACE MACRO hdr_max(buckets) AS
    list_max(list_transform(buckets, lambda bucket: bucket.value_ns));

CREATE OR REPLACE MACRO hdr_share_within(buckets, limit_ns) AS
    coalesce(list_sum(list_transform(list_filter(buckets, lambda bucket: bucket.value_ns <= limit_ns), lambda bucket: bucket.count)), 0)
        ::DOUBLE / nullif(hdr_count(buckets), 0)::DOUBLE;

CREATE OR REPLACE MACRO hdr_merge(lists) AS (
    SELECT coalesce(list({'value_ns': value_ns, 'count': total} ORDER BY value_ns), [])
    FROM (
        SELECT bucket.value_ns AS value_ns, sum(bucket.count)::UBIGINT AS total
        FROM (SELECT unnest(flatten(lists)) AS bucket)
        GROUP BY value_ns
    )
);

COMMENT ON MACRO hdr_count IS 'samples of a histogram';
COMMENT ON MACRO hdr_quantile IS 'the value that this share of the samples do not exceed, in nanoseconds: hdr_quantile(buckets, 0.99)';
COMMENT ON MACRO hdr_max IS 'the highest value of a histogram, in nanoseconds';
COMMENT ON MACRO hdr_share_within IS 'the share of the samples that are at or below a limit in nanoseconds';
COMMENT ON MACRO hdr_merge IS 'one histogram out of several, never an average: hdr_merge(list(buckets)) in a GROUP BY';
