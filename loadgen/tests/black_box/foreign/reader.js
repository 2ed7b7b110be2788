// Reads histogram logs with npm's `hdr-histogram-js` and prints what it found: a JSON list, an object by tag for each file.
"use strict";

const { readFileSync } = require("fs");
const { build, HistogramLogReader } = require("hdr-histogram-js");

// Counts above 2^32 need the buckets of 64 bits.
const BITS = 64;

const empty = () =>
  build({ bitBucketSize: BITS, highestTrackableValue: 3600e9, numberOfSignificantValueDigits: 3 });

function buckets(histogram) {
  const iterator = histogram.recordedValuesIterator;
  const found = [];
  iterator.reset();
  while (iterator.hasNext()) {
    const step = iterator.next();
    found.push([histogram.highestEquivalentValue(step.valueIteratedTo), step.countAddedInThisIterationStep]);
  }
  return found;
}

// The module rounds ranks its own way; ours (and Java's) is the smallest value with at least this share of the samples.
function quantile(found, share) {
  const rank = Math.max(1, Math.ceil(share * found.reduce((sum, [, count]) => sum + count, 0)));
  let seen = 0;
  for (const [value, count] of found) {
    seen += count;
    if (seen >= rank) return value;
  }
  return null;
}

function read(path) {
  const reader = new HistogramLogReader(readFileSync(path, "utf8"), BITS);
  const tags = new Map();
  for (let interval = reader.nextIntervalHistogram(); interval !== null; interval = reader.nextIntervalHistogram()) {
    const name = interval.tag === "NO TAG" ? "" : interval.tag;
    if (!tags.has(name)) tags.set(name, { sum: empty(), intervals: [] });
    const tag = tags.get(name);
    tag.intervals.push(buckets(interval));
    tag.sum.add(interval);
  }
  return Object.fromEntries([...tags].map(([name, tag]) => [name, figures(tag.sum, tag.intervals)]));
}

function figures(histogram, intervals) {
  const found = buckets(histogram);
  return {
    count: histogram.totalCount,
    p50: quantile(found, 0.5),
    p99: quantile(found, 0.99),
    p999: quantile(found, 0.999),
    max: found.length > 0 ? histogram.maxValue : null,
    buckets: found,
    intervals,
  };
}

console.log(JSON.stringify(process.argv.slice(2).map(read)));
