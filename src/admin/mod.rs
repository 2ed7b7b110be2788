//! The admin thread on monoio: status, counters, claim chart, deploys.
