use serde_json::json;

use super::render;

#[test]
fn numbers_become_metrics_with_units_kinds_and_labels() {
    let status = json!({
        "version": "1", "engine": "uring", "name": "a \"b\"\\",
        "uptime_ms": 1500,
        "latency": {"total": {"count": 3}},
        "workers": [{
            "worker": 4, "core": 2, "cpu_ns": 2_500_000_000_u64,
            "engine": {"turns": 3, "completions": 9, "completions_per_enter": [1, 2, 4]},
            "front": {
                "front": 1, "load": 2, "draining": true, "listen": "x",
                "counters": {"requests_taken": 7},
                "endings": {"local": 5},
                "outstanding": [0, 3],
                "upstreams": [{"address": "unix:/a\nb", "state": "up", "requests": 8}],
            },
            "replica": {"replica": 0, "tables": [{"table": "item", "rows": 60, "digest": "ff"}]},
        }],
    });
    let text = render(&status, &[]);
    for line in [
        "# TYPE twintier_front_requests_taken_total counter",
        "twintier_front_requests_taken_total{front=\"1\"} 7",
        "# TYPE twintier_front_load gauge",
        "twintier_front_draining{front=\"1\"} 1",
        "twintier_front_endings_total{front=\"1\",reason=\"local\"} 5",
        "twintier_front_outstanding{front=\"1\",replica=\"1\"} 3",
        "twintier_front_upstream_requests_total{front=\"1\",upstream=\"unix:/a\\nb\"} 8",
        "twintier_front_upstream_state{front=\"1\",upstream=\"unix:/a\\nb\",state=\"up\"} 1",
        "twintier_replica_table_rows{replica=\"0\",table=\"item\"} 60",
        "twintier_worker_cpu_seconds_total{worker=\"4\"} 2.5",
        "twintier_worker_core{worker=\"4\"} 2",
        "twintier_uptime_seconds 1.5",
        "twintier_info{version=\"1\",engine=\"uring\",name=\"a \\\"b\\\"\\\\\"} 1",
        "# TYPE twintier_engine_completions_per_enter histogram",
        "twintier_engine_completions_per_enter_bucket{worker=\"4\",le=\"0\"} 1",
        "twintier_engine_completions_per_enter_bucket{worker=\"4\",le=\"1\"} 3",
        "twintier_engine_completions_per_enter_bucket{worker=\"4\",le=\"+Inf\"} 7",
        "twintier_engine_completions_per_enter_sum{worker=\"4\"} 9",
        "twintier_engine_completions_per_enter_count{worker=\"4\"} 7",
    ] {
        assert!(text.lines().any(|known| known == line), "{line} is missing:\n{text}");
    }
    assert!(!text.contains("latency") && !text.contains("digest") && !text.contains("front_front"), "{text}");
}
