//! Run profiles: one TOML file, every key documented in `profiles/README.md`, unknown keys refused.
//!
//! Reading is in two steps: [`Profile`] is as close to the file as possible; what depends on the machine (placement,
//! budget) is derived from it elsewhere.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;

mod bounds;
mod cluster;
mod database;
mod dispatch;
mod engine;
pub mod forwarding;
mod listen;
pub mod log;
mod setting;
mod storage;
mod upstream;

pub use self::bounds::{Limits, Timeouts};
pub use self::cluster::{Cluster, PlacementKind};
pub use self::database::{Database, DatabaseKind};
pub use self::dispatch::Dispatch;
pub use self::engine::EngineSizes;
pub use self::listen::Listen;
pub use self::storage::{Import, Storage};
pub use self::upstream::Upstream;

use self::setting::with_setting;
use crate::dispatch::policy::PolicyName;
use crate::dispatch::requests::REPLICAS_MAX;
use crate::engine::{Address, EngineChoice};
use crate::error::Fault;
use crate::limits;
use crate::tables::stamp::SERVERS_MAX;

// The last server number is the application server's.
const _: () = assert!(SERVERS_MAX - 1 <= REPLICAS_MAX);

/// More fronts than any machine has: each must have a share of an upstream server's cap.
const FRONTS_MAX: u32 = 256;

/// A profile as written, with the folder that its relative paths start from.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    pub cluster: Cluster,
    #[serde(default)]
    pub listen: Listen,
    #[serde(default)]
    pub engine: EngineSizes,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub timeouts: Timeouts,
    #[serde(default)]
    pub upstream: Upstream,
    #[serde(default)]
    pub forwarding: forwarding::Forwarding,
    #[serde(default)]
    pub dispatch: Dispatch,
    #[serde(default)]
    pub log: log::Log,
    #[serde(default)]
    pub replication: Replication,
    #[serde(default)]
    pub database: Database,
    pub storage: Storage,
    #[serde(default)]
    pub applications: Vec<Application>,
    /// Back-end servers by the name that agents use.
    #[serde(default)]
    pub backends: BTreeMap<String, String>,
    #[serde(default)]
    pub users: Vec<User>,
    /// What was set on the command line.
    #[serde(skip)]
    pub settings: Vec<String>,
    /// The file this was read from, and its folder.
    #[serde(skip)]
    pub file: PathBuf,
    #[serde(skip)]
    pub folder: PathBuf,
}

/// Replication between replicas.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Replication {
    pub sweep_ms: u64,
}

/// One enterprise application.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Application {
    pub name: String,
    /// Folder of its code tables, relative to the profile.
    pub code: PathBuf,
}

/// A user profile that is created when the database does not have it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    pub user: String,
    pub name: String,
    pub department: String,
    #[serde(default)]
    pub email: String,
    pub roles: String,
    pub password: String,
}

impl Default for Replication {
    fn default() -> Self {
        Self { sweep_ms: 1_000 }
    }
}

impl Profile {
    /// Reads a profile and applies `section.key=value` settings from the command line.
    ///
    /// # Errors
    /// Every mistake with its place; a setting's place is the command line.
    pub fn read(file: &Path, settings: &[String]) -> Result<Self, Fault> {
        let text = std::fs::read_to_string(file).map_err(|error| {
            Fault::new(
                file,
                0,
                0,
                format!("cannot be read: {error}"),
                "name a profile such as profiles/quickstart.toml",
            )
        })?;
        let mut profile: Self = if settings.is_empty() {
            toml::from_str(&text).map_err(|error| Fault::toml(file, &text, &error))?
        } else {
            // The file alone first, so that its own mistakes keep their place.
            let _: Self = toml::from_str(&text).map_err(|error| Fault::toml(file, &text, &error))?;
            let mut tree: toml::Table = toml::from_str(&text).map_err(|error| Fault::toml(file, &text, &error))?;
            let mut profile: Option<Self> = None;
            for setting in settings {
                profile = Some(with_setting(&mut tree, setting)?);
            }
            profile.expect("invariant: there is a setting")
        };
        profile.settings = settings.to_vec();
        profile.file = file.to_path_buf();
        profile.folder = file.parent().map_or_else(PathBuf::new, Path::to_path_buf);
        profile.validate(&text)?;
        Ok(profile)
    }

    /// A path of the profile, relative to its folder.
    pub fn path(&self, relative: &Path) -> PathBuf {
        self.folder.join(relative)
    }

    /// A mistake that shows only when a key is used, with its place.
    pub fn fault(&self, section: &str, key: &str, wrong: String, cure: &str) -> Fault {
        // A file that has gone meanwhile has no lines.
        let text = std::fs::read_to_string(&self.file).unwrap_or_default();
        self.place(&text, section, key, wrong, cure)
    }

    fn place(&self, text: &str, section: &str, key: &str, wrong: String, cure: &str) -> Fault {
        let set = self.settings.iter().rev().find(|setting| setting.starts_with(&format!("{section}.{key}=")));
        match set {
            // A setting of the URL may hold a password.
            Some(_) if key == "url" => Fault::new(Path::new("--set database.url=…"), 1, 1, wrong, cure),
            Some(setting) => Fault::new(Path::new(&format!("--set {setting}")), 1, 1, wrong, cure),
            None => Fault::at(&self.file, text, locate(text, section, key), wrong, cure),
        }
    }

    /// Folders of the applications' code tables.
    pub fn code_folders(&self) -> Vec<PathBuf> {
        self.applications.iter().map(|application| self.path(&application.code)).collect()
    }

    fn validate(&self, text: &str) -> Result<(), Fault> {
        let fault = |section: &str, key: &str, wrong: String, cure: &str| self.place(text, section, key, wrong, cure);
        for (key, value) in [("http", &self.listen.http), ("admin", &self.listen.admin)] {
            match Address::from_str(value) {
                Ok(Address::Tcp(_)) => {}
                Ok(Address::Unix(_)) => {
                    let wrong = format!("`{value}` is a Unix socket");
                    return Err(fault(
                        "listen",
                        key,
                        wrong,
                        "the front servers and the admin interface share TCP ports",
                    ));
                }
                Err(wrong) => return Err(fault("listen", key, wrong, "port 0 lets the kernel choose")),
            }
        }
        if let Ok(Address::Tcp(address)) = Address::from_str(&self.listen.admin)
            && !address.ip().is_loopback()
            && self.listen.admin_token.is_empty()
        {
            let wrong = format!("the admin interface would listen on {address} without a token");
            return Err(fault("listen", "admin", wrong, "set listen.admin_token, or listen on 127.0.0.1"));
        }
        if let Err(wrong) = EngineChoice::from_str(&self.engine.kind) {
            return Err(fault("engine", "kind", wrong, ""));
        }
        if !self.engine.receive_buffers.is_power_of_two() || self.engine.receive_buffers > 32768 {
            let wrong = format!("{} receive buffers", self.engine.receive_buffers);
            return Err(fault("engine", "receive_buffers", wrong, "a power of two up to 32768"));
        }
        for (key, entries) in [
            ("submission_entries", self.engine.submission_entries),
            ("completion_entries", self.engine.completion_entries),
        ] {
            if !entries.is_power_of_two() || entries > 65536 {
                return Err(fault("engine", key, format!("{entries} entries"), "a power of two up to 65536"));
            }
        }
        self.validate_bounds().map_err(|(section, key, wrong, cure)| fault(section, key, wrong, cure))?;
        if self.engine.send_buffer_bytes < 4096
            || (self.engine.send_buffer_bytes as usize) < self.limits.head_bytes_max / 4
        {
            let wrong = format!("{} bytes cannot hold an answer's head", self.engine.send_buffer_bytes);
            return Err(fault(
                "engine",
                "send_buffer_bytes",
                wrong,
                "at least 4096 and a quarter of limits.head_bytes_max",
            ));
        }
        self.database.validate().map_err(|(key, wrong, cure)| fault("database", key, wrong, cure))?;
        if self.cluster.fronts == 1 || self.cluster.replicas == 1 {
            let key = if self.cluster.fronts == 1 { "fronts" } else { "replicas" };
            return Err(fault(
                "cluster",
                key,
                "a cluster of one server".into(),
                "write 2 or more, or 0 to derive it from the cores",
            ));
        }
        if self.cluster.replicas >= SERVERS_MAX {
            let wrong = format!("{} replicas", self.cluster.replicas);
            return Err(fault("cluster", "replicas", wrong, "at most 15: the application server is the 16th origin"));
        }
        if let Err(wrong) = PolicyName::from_str(&self.dispatch.policy) {
            return Err(fault("dispatch", "policy", wrong, ""));
        }
        if let Err((key, wrong, cure)) = self.log.validate() {
            return Err(fault("log", key, wrong, cure));
        }
        for (key, value) in [("credit", self.dispatch.credit), ("outstanding_max", self.dispatch.outstanding_max)] {
            if value == 0 {
                return Err(fault("dispatch", key, "0 lets no request through".into(), "write 1 or more"));
            }
        }
        if self.upstream.outstanding_max < FRONTS_MAX {
            let wrong = format!("{} requests at a time", self.upstream.outstanding_max);
            let cure = "write 256 or more, so that every front has a share; max= in a statement may be lower";
            return Err(fault("upstream", "outstanding_max", wrong, cure));
        }
        for (key, value, most) in
            [("retries", self.upstream.retries, 5), ("retry_percent", self.upstream.retry_percent, 100)]
        {
            if value > most {
                return Err(fault("upstream", key, format!("{value} is too much"), &format!("at most {most}")));
            }
        }
        for (key, value) in [
            ("eject_failures", self.upstream.eject_failures),
            ("check_rise", self.upstream.check_rise),
            ("check_fall", self.upstream.check_fall),
        ] {
            if value == 0 {
                return Err(fault("upstream", key, "0 of them decide nothing".into(), "write 1 or more"));
            }
        }
        for (name, address) in &self.backends {
            if let Err(wrong) = Address::from_str(address) {
                return Err(fault("backends", name, wrong, ""));
            }
        }
        Ok(())
    }
}

/// Section and key of a bound that cannot hold, what is wrong with it, and what would be right.
type WrongBound = (&'static str, &'static str, String, &'static str);

impl Profile {
    /// Every bound lets something through, and none is endless.
    fn validate_bounds(&self) -> Result<(), WrongBound> {
        let (bounds, times) = (&self.limits, &self.timeouts);
        for (key, is_zero) in [
            ("head_bytes_max", bounds.head_bytes_max == 0),
            ("header_count_max", bounds.header_count_max == 0),
            ("connection_requests_max", bounds.connection_requests_max == 0),
            ("connection_buffer_bytes_max", bounds.connection_buffer_bytes_max == 0),
            ("connections_per_address_max", bounds.connections_per_address_max == 0),
            ("transfer_bytes_per_s_min", bounds.transfer_bytes_per_s_min == 0),
            ("parked_jobs_max", bounds.parked_jobs_max == 0),
        ] {
            if is_zero {
                return Err((
                    "limits",
                    key,
                    "0 lets nothing through".into(),
                    "write 1 or more; no limit can be switched off",
                ));
            }
        }
        for (key, value) in [
            ("head_ms", times.head_ms),
            ("body_ms", times.body_ms),
            ("send_ms", times.send_ms),
            ("idle_ms", times.idle_ms),
            ("tunnel_idle_ms", times.tunnel_idle_ms),
            ("queue_ms", times.queue_ms),
            ("job_ms", times.job_ms),
            ("upstream_connect_ms", times.upstream_connect_ms),
            ("upstream_first_byte_ms", times.upstream_first_byte_ms),
            ("upstream_answer_ms", times.upstream_answer_ms),
            ("upstream_idle_ms", times.upstream_idle_ms),
            ("drain_ms", times.drain_ms),
            ("hung_ms", times.hung_ms),
            ("dead_ms", times.dead_ms),
            ("stop_ms", times.stop_ms),
        ] {
            if !(1..=limits::TIMEOUT_MS_MAX).contains(&value) {
                let cure = "1 to 2592000000, which is thirty days; no time can be switched off";
                return Err(("timeouts", key, format!("{value} milliseconds"), cure));
            }
        }
        Ok(())
    }
}

/// Byte offset of `key` in `[section]`, or of the section, or the start.
fn locate(text: &str, section: &str, key: &str) -> usize {
    let mut offset = 0;
    let mut inside = false;
    let mut found_section = 0;
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim();
        if trimmed.starts_with('[') {
            inside = trimmed.trim_matches(['[', ']']) == section;
            if inside {
                found_section = offset;
            }
        } else if inside && trimmed.split('=').next().is_some_and(|name| name.trim() == key) {
            return offset + (line.len() - line.trim_start().len());
        }
        offset += line.len();
    }
    found_section
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "[cluster]\nname = \"t\"\n[storage]\nstatements = \"t.statements\"\n";

    fn read(text: &str, settings: &[&str]) -> Result<Profile, String> {
        let folder = std::env::temp_dir().join(format!(
            "twintier-profile-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("p.toml");
        std::fs::write(&file, text).unwrap();
        let settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
        Profile::read(&file, &settings)
            .map_err(|fault| fault.to_string().replace(&format!("{}/", folder.display()), ""))
    }

    #[test]
    fn the_least_profile_is_enough() {
        let profile = read(LEAST, &[]).unwrap();
        assert_eq!(profile.timeouts.queue_ms, 1000);
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_place() {
        let wrong = read(&format!("{LEAST}[timeouts]\nhead_sm = 3\n"), &[]).unwrap_err();
        assert!(wrong.starts_with("p.toml:6:1: unknown field `head_sm`"), "{wrong}");
    }

    #[test]
    fn settings_override_and_are_checked() {
        assert_eq!(read(LEAST, &["listen.http=127.0.0.1:0"]).unwrap().listen.http, "127.0.0.1:0");
        assert_eq!(read(LEAST, &["timeouts.head_ms=5"]).unwrap().timeouts.head_ms, 5);
        assert_eq!(read(LEAST, &["cluster.cores=0"]).unwrap().cluster.cores, "0");
        assert!(read(LEAST, &["listen.htp=x"]).unwrap_err().starts_with("--set listen.htp=x:1:1: unknown field"));
        assert!(read(LEAST, &["nonsense"]).unwrap_err().contains("no `=`"));
    }

    #[test]
    fn semantic_mistakes_name_their_line() {
        let wrong = read(&format!("{LEAST}[listen]\nbacklog = 1\nhttp = \"here\"\n"), &[]).unwrap_err();
        assert!(wrong.starts_with("p.toml:7:1: `here` is no address"), "{wrong}");
        let wrong = read(&format!("{LEAST}[listen]\nadmin = \"0.0.0.0:1\"\n"), &[]).unwrap_err();
        assert!(wrong.contains("without a token"), "{wrong}");
        let wrong = read(&LEAST.replace("name =", "replicas = 1\nname ="), &[]).unwrap_err();
        assert!(wrong.starts_with("p.toml:2:1: a cluster of one server"), "{wrong}");
    }

    #[test]
    fn no_bound_is_endless_and_none_lets_nothing_through() {
        let wrong = read(&format!("{LEAST}[timeouts]\nidle_ms = 1\nsend_ms = 0\n"), &[]).unwrap_err();
        assert!(wrong.starts_with("p.toml:7:1: 0 milliseconds"), "{wrong}");
        let wrong = read(LEAST, &["timeouts.tunnel_idle_ms=99999999999"]).unwrap_err();
        assert!(wrong.contains("thirty days"), "{wrong}");
        let wrong = read(LEAST, &["limits.connections_per_address_max=0"]).unwrap_err();
        assert!(wrong.contains("0 lets nothing through"), "{wrong}");
    }

    #[test]
    fn the_log_has_levels_and_a_format() {
        let settings = read(LEAST, &["log.level=info,database=debug", "log.format=json"]).unwrap().log.settings();
        assert_eq!(
            (settings.filter.to_string().as_str(), settings.format),
            ("info,database=debug", crate::log::Format::Json)
        );
        let wrong = read(&format!("{LEAST}[log]\nlevel = \"loud\"\n"), &[]).unwrap_err();
        assert!(wrong.starts_with("p.toml:6:1: `loud` is no level"), "{wrong}");
        let wrong = read(LEAST, &["log.format=xml"]).unwrap_err();
        assert!(wrong.contains("write logfmt or json"), "{wrong}");
    }

    #[test]
    fn forwarding_names_networks_and_fields() {
        let text = format!("{LEAST}[forwarding]\ntrusted = [\"127.0.0.0/8\", \"::1\"]\nheaders = \"both\"\n");
        let forwarding = read(&text, &[]).unwrap().forwarding;
        assert!(forwarding.trusts(Some("127.0.0.1".parse().unwrap())) && forwarding.headers.has_forwarded());
        assert!(!read(LEAST, &[]).unwrap().forwarding.trusts(Some("127.0.0.1".parse().unwrap())), "nobody is trusted");
        let wrong = read(&format!("{LEAST}[forwarding]\ntrusted = [\"10.0.0.1/8\"]\n"), &[]).unwrap_err();
        assert!(wrong.starts_with("p.toml:6:") && wrong.contains("bits behind its prefix"), "{wrong}");
        let wrong = read(&format!("{LEAST}[forwarding]\nheaders = \"some\"\n"), &[]).unwrap_err();
        assert!(wrong.contains("x-forwarded"), "{wrong}");
    }
}
