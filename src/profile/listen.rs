//! Where the appliance listens.

use serde::Deserialize;

/// Addresses.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    pub http: String,
    pub admin: String,
    /// Bearer token of the admin interface; needed when it listens on anything but loopback.
    pub admin_token: String,
    pub backlog: i32,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            http: "127.0.0.1:8080".into(),
            admin: "127.0.0.1:8081".into(),
            admin_token: String::new(),
            backlog: 4096,
        }
    }
}
