"""Reads histogram logs with PyPI's `hdrhistogram` and prints what it found: a JSON list, an object by tag for each file."""

import json
import math
import sys

from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader


def empty():
    return HdrHistogram(1, 3600 * 10**9, 3)


def buckets(histogram):
    return [
        [histogram.get_highest_equivalent_value(step.value_iterated_to), step.count_added_in_this_iter_step]
        for step in histogram.get_recorded_iterator()
    ]


def quantile(found, share):
    # The module rounds ranks its own way; ours (and Java's) is the smallest value with at least this share of the samples.
    rank, seen = max(1, math.ceil(share * sum(count for _, count in found))), 0
    for value, count in found:
        seen += count
        if seen >= rank:
            return value
    return None


def read(path):
    reader, out = HistogramLogReader(path, empty()), {}
    while (interval := reader.get_next_interval_histogram()) is not None:
        tag = out.setdefault(interval.get_tag() or "", {"sum": empty(), "intervals": []})
        tag["intervals"].append(buckets(interval))
        tag["sum"].add(interval)
    return {name: figures(tag["sum"], tag["intervals"]) for name, tag in out.items()}


def figures(histogram, intervals):
    found = buckets(histogram)
    return {
        "count": histogram.get_total_count(),
        "p50": quantile(found, 0.5),
        "p99": quantile(found, 0.99),
        "p999": quantile(found, 0.999),
        "max": histogram.get_max_value() if found else None,
        "buckets": found,
        "intervals": intervals,
    }


print(json.dumps([read(path) for path in sys.argv[1:]]))
