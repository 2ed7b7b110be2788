//! The published schema of `summary.json`: every field with its definition, every number with its unit, every latency
//! with the pair of stamps that it lies between. `loadgen schema` prints it.
//!
//! Architecture invariant: a field is not in a summary unless it is here; `tests/black_box/schema.rs` holds real
//! summaries against it, key by key.

/// JSON Schema, draft 2020-12. `unit` beside a number is our own keyword, which validators pass over.
pub const SUMMARY: &str = include_str!("../schema/summary.schema.json");

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::SUMMARY;
    use crate::summary::definitions;

    /// All properties with their path, those of `$defs` as well.
    fn properties(schema: &Value) -> Vec<(String, &Value)> {
        let mut found = Vec::new();
        let objects = schema["$defs"].as_object().unwrap();
        let named = objects.iter().map(|(name, object)| (format!("$defs/{name}/"), object));
        for (path, object) in named.chain([(String::new(), schema)]) {
            let properties = object["properties"].as_object().unwrap();
            found.extend(properties.iter().map(|(name, property)| (format!("{path}{name}"), property)));
        }
        found
    }

    fn holds_numbers(property: &Value) -> bool {
        let types = |value: &Value| value["type"].to_string();
        [property, &property["items"], &property["additionalProperties"]]
            .iter()
            .any(|part| types(part).contains("integer") || types(part).contains("number"))
    }

    /// Two different stamps on either side of a minus sign, or a page's from one to another.
    fn names_its_clock_pair(text: &str) -> bool {
        let stamps: Vec<&str> =
            ["t0", "t1", "t2", "t3", "t4", "t5"].into_iter().filter(|stamp| text.contains(stamp)).collect();
        stamps.len() >= 2 && (text.contains(" − ") || text.contains("to t5"))
    }

    #[test]
    fn every_field_has_a_definition_and_every_number_a_unit() {
        let schema: Value = serde_json::from_str(SUMMARY).unwrap();
        let properties = properties(&schema);
        assert!(properties.len() > 60);
        for (path, property) in properties {
            let description = property["description"].as_str().unwrap_or_default();
            assert!(
                description.split_whitespace().count() >= 2 && description.ends_with('.'),
                "{path}: `{description}` is no sentence"
            );
            let unit = property["unit"].as_str();
            assert_eq!(holds_numbers(property), unit.is_some_and(|unit| !unit.is_empty()), "{path}: unit {unit:?}");
            // What a name says about its unit is so: units come last.
            for (end, expected) in
                [("_ns", "ns"), ("_bytes", "bytes"), ("_s", "s"), ("_share", "share of 1"), ("_rate", "requests/s")]
            {
                assert!(!path.ends_with(end) || unit.is_none_or(|unit| unit == expected), "{path}: in {unit:?}");
            }
        }
    }

    #[test]
    fn every_latency_names_its_clock_pair() {
        let schema: Value = serde_json::from_str(SUMMARY).unwrap();
        let quantiles: Vec<(String, &Value)> =
            properties(&schema).into_iter().filter(|(_, property)| property["$ref"] == "#/$defs/quantiles").collect();
        assert!(quantiles.len() >= 8);
        for (path, property) in quantiles {
            assert!(path.ends_with("_ns"), "{path}");
            assert!(names_its_clock_pair(property["description"].as_str().unwrap()), "{path}: {property}");
        }
        for (name, words) in [true, false].into_iter().flat_map(definitions).filter(|(name, _)| name.ends_with("_ns")) {
            assert!(names_its_clock_pair(&words), "definitions: {name}: {words}");
        }
    }
}
