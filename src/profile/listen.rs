//! Where the appliance listens.

use std::str::FromStr;

use serde::Deserialize;

use super::Wrong;
use crate::engine::Address;

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

impl Listen {
    pub(super) fn validate(&self) -> Result<(), Wrong> {
        for (key, value) in [("http", &self.http), ("admin", &self.admin)] {
            match Address::from_str(value) {
                Ok(Address::Tcp(_)) => {}
                Ok(Address::Unix(_)) => {
                    let cure = "the front servers and the admin interface share TCP ports";
                    return Err((key, format!("`{value}` is a Unix socket"), cure));
                }
                Err(wrong) => return Err((key, wrong, "port 0 lets the kernel choose")),
            }
        }
        if let Ok(Address::Tcp(address)) = Address::from_str(&self.admin)
            && !address.ip().is_loopback()
            && self.admin_token.is_empty()
        {
            let wrong = format!("the admin interface would listen on {address} without a token");
            return Err(("admin", wrong, "set listen.admin_token, or listen on 127.0.0.1"));
        }
        Ok(())
    }
}
