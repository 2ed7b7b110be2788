//! One point of a comparison: the load that each of its systems gets.

use serde::{Deserialize, Serialize};

use crate::table::count_text;

/// What stands behind the address that is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// A reverse proxy in front of an origin server.
    Proxy,
    /// The origin server itself: one hop.
    Origin,
    /// An application that answers a page.
    App,
}

impl Work {
    /// As it is written down.
    pub fn name(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Origin => "origin",
            Self::App => "app",
        }
    }
}

/// How it is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Load {
    /// A closed loop on connections that stay.
    KeepAlive,
    /// A closed loop with a new connection for each request.
    NewConnections,
    /// [`KeepAlive`](Self::KeepAlive) beside connections that asked once and then only stay.
    Idle,
    /// An open loop at a share of the capacity that the block's [`KeepAlive`](Self::KeepAlive) trials found.
    Rate,
}

impl Load {
    /// As it is written down.
    pub fn name(self) -> &'static str {
        match self {
            Self::KeepAlive => "keep-alive",
            Self::NewConnections => "new-connections",
            Self::Idle => "idle",
            Self::Rate => "rate",
        }
    }
}

/// The load of a group of trials. Its fields stand beside the others wherever a figure is written down.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Case {
    pub work: Work,
    pub load: Load,
    /// Of the generator.
    pub connections: u32,
    /// Of the answer.
    pub body_bytes: usize,
    /// Held beside the load; 0 unless it is [`Load::Idle`].
    pub idle_connections: u32,
    /// Of capacity; `null` unless it is [`Load::Rate`].
    pub rate_share: Option<f64>,
}

impl Case {
    /// A closed loop on connections that stay.
    pub fn keep_alive(work: Work, connections: u32, body_bytes: usize) -> Self {
        Self { work, load: Load::KeepAlive, connections, body_bytes, idle_connections: 0, rate_share: None }
    }

    /// Short and unique within a run: names of folders begin with it.
    pub fn key(&self) -> String {
        let work = match self.work {
            Work::Proxy => "",
            Work::Origin => "origin-",
            Work::App => "app-",
        };
        let load = match self.load {
            Load::KeepAlive => String::new(),
            Load::NewConnections => "-new".to_owned(),
            Load::Idle => format!("-idle{}", self.idle_connections),
            Load::Rate => format!("-rate{:.0}", self.rate_share.unwrap_or(0.0) * 100.0),
        };
        format!("{work}c{}-{}B{load}", self.connections, self.body_bytes)
    }

    /// For headings: `64 connections, 128 B, a new connection for each request`.
    pub fn title(&self) -> String {
        let work = match self.work {
            Work::Proxy | Work::App => "",
            Work::Origin => "origin alone, ",
        };
        let load = match self.load {
            Load::KeepAlive => String::new(),
            Load::NewConnections => ", a new connection for each request".to_owned(),
            Load::Idle => format!(", beside {} idle connections", count_text(u64::from(self.idle_connections))),
            Load::Rate => format!(", open loop at {:.0} % of capacity", self.rate_share.unwrap_or(0.0) * 100.0),
        };
        format!("{work}{} connections, {}{load}", self.connections, body_text(self.body_bytes))
    }

    /// As short as pictures need it: `64 connections, 128 B, new connections`.
    pub fn label(&self) -> String {
        let work = match self.work {
            Work::Proxy | Work::App => "",
            Work::Origin => "origin, ",
        };
        let load = match self.load {
            Load::KeepAlive => String::new(),
            Load::NewConnections => ", new connections".to_owned(),
            Load::Idle => format!(", {} idle", count_text(u64::from(self.idle_connections))),
            Load::Rate => format!(", open loop {:.0} %", self.rate_share.unwrap_or(0.0) * 100.0),
        };
        format!("{work}{} connections, {}{load}", self.connections, body_text(self.body_bytes))
    }

    /// The load whose throughput is the capacity that [`Load::Rate`] takes a share of.
    pub fn capacity_case(&self) -> Self {
        Self { load: Load::KeepAlive, rate_share: None, ..*self }
    }
}

/// A size in the unit that divides it.
pub fn body_text(bytes: usize) -> String {
    const KIB: usize = 1024;
    const MIB: usize = KIB * KIB;
    match bytes {
        0 => "0 B".to_owned(),
        _ if bytes.is_multiple_of(MIB) => format!("{} MiB", bytes / MIB),
        _ if bytes.is_multiple_of(KIB) => format!("{} KiB", bytes / KIB),
        _ => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Case, Load, Work, body_text};

    #[test]
    fn keys_and_titles_tell_cases_apart() {
        let plain = Case::keep_alive(Work::Proxy, 64, 128);
        let idle = Case { load: Load::Idle, idle_connections: 10_000, ..plain };
        let rate = Case { load: Load::Rate, rate_share: Some(0.7), ..plain };
        let origin = Case { work: Work::Origin, load: Load::NewConnections, ..plain };
        assert_eq!(
            [plain, idle, rate, origin].map(|case| case.key()),
            ["c64-128B", "c64-128B-idle10000", "c64-128B-rate70", "origin-c64-128B-new"]
        );
        assert_eq!(idle.title(), "64 connections, 128 B, beside 10,000 idle connections");
        assert_eq!(rate.title(), "64 connections, 128 B, open loop at 70 % of capacity");
        assert_eq!(
            [idle.label(), rate.label(), origin.label()],
            [
                "64 connections, 128 B, 10,000 idle",
                "64 connections, 128 B, open loop 70 %",
                "origin, 64 connections, 128 B, new connections"
            ]
        );
        assert_eq!(rate.capacity_case(), plain);
        assert_eq!([0, 1000, 16_384, 1 << 20].map(body_text), ["0 B", "1000 B", "16 KiB", "1 MiB"]);
    }
}
