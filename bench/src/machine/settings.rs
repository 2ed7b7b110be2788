//! Settings of the kernel that move figures without a word: pages, nodes, ports, quotas, throttles.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{CoreMap, parse_core_list};

/// As they were when the run began. What the kernel does not show is `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// The chosen word of `transparent_hugepage/enabled`.
    pub huge_pages: Option<String>,
    /// Memory nodes that the cores of the core map belong to.
    pub nodes: Vec<usize>,
    /// The first and the last port that connections may come from.
    pub local_ports: Option<(u32, u32)>,
    /// 0 never, 1 always, 2 on loopback only.
    pub tcp_tw_reuse: Option<u64>,
    /// Cores' worth of time that the control group may use; `None` is unlimited.
    pub cpu_quota: Option<f64>,
    /// How often the quota ran out, and how often a core was slowed down for its heat, since boot.
    pub quota_throttles: Option<u64>,
    pub heat_throttles: Option<u64>,
}

impl Settings {
    /// Reads them below `root`, which is `/` but in tests.
    pub fn read(root: &Path, cores: &CoreMap) -> Self {
        let text = |path: &str| fs::read_to_string(root.join(path)).ok().map(|text| text.trim().to_owned());
        let huge_pages = text("sys/kernel/mm/transparent_hugepage/enabled");
        let chosen = huge_pages.as_deref().and_then(|words| words.split('[').nth(1)?.split(']').next());
        let ports = text("proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
        let mut ports = ports.split_whitespace().map_while(|word| word.parse::<u32>().ok());
        let group = Group::find(root);
        Self {
            huge_pages: chosen.map(str::to_owned),
            nodes: nodes(root, cores),
            local_ports: ports.next().zip(ports.next()),
            tcp_tw_reuse: text("proc/sys/net/ipv4/tcp_tw_reuse").and_then(|text| text.parse().ok()),
            cpu_quota: group.quota(),
            quota_throttles: group.throttles(),
            heat_throttles: heat_throttles(root, cores),
        }
    }

    /// Throttles since an earlier look, of both kinds; `None` where the kernel counts neither.
    pub fn throttles_since(&self, earlier: &Self) -> Option<u64> {
        let more =
            |now: Option<u64>, before: Option<u64>| now.zip(before).map(|(now, before)| now.saturating_sub(before));
        let found =
            [more(self.quota_throttles, earlier.quota_throttles), more(self.heat_throttles, earlier.heat_throttles)];
        found.iter().any(Option::is_some).then(|| found.iter().flatten().sum())
    }
}

/// The folders of the control group of this process, the nearest first.
struct Group(Vec<PathBuf>);

impl Group {
    fn find(root: &Path) -> Self {
        let text = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
        let mut folders = Vec::new();
        for line in text.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
            let base = match controllers {
                "" => root.join("sys/fs/cgroup"),
                names if names.split(',').any(|name| name == "cpu") => root.join("sys/fs/cgroup").join("cpu"),
                _ => continue,
            };
            // Inside a container the path may be the host's, and the folder itself stands at the root.
            folders.extend([base.join(path.trim_start_matches('/')), base]);
        }
        Self(folders)
    }

    fn text(&self, name: &str) -> Option<String> {
        self.0.iter().find_map(|folder| fs::read_to_string(folder.join(name)).ok())
    }

    /// `max 100000` or `150000 100000`; in version 1 two files, of which the first is -1 without a limit.
    fn quota(&self) -> Option<f64> {
        let share = |quota: &str, period: &str| Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?);
        let found = if let Some(text) = self.text("cpu.max") {
            let (quota, period) = text.trim().split_once(' ')?;
            share(quota, period)
        } else {
            share(self.text("cpu.cfs_quota_us")?.trim(), self.text("cpu.cfs_period_us")?.trim())
        };
        found.filter(|share| *share > 0.0)
    }

    fn throttles(&self) -> Option<u64> {
        let text = self.text("cpu.stat")?;
        text.lines().find_map(|line| line.strip_prefix("nr_throttled "))?.trim().parse().ok()
    }
}

fn nodes(root: &Path, cores: &CoreMap) -> Vec<usize> {
    let entries =
        fs::read_dir(root.join("sys/devices/system/node")).map(|entries| entries.flatten().collect::<Vec<_>>());
    let holds_one = |entry: &fs::DirEntry| {
        let number = entry.file_name().to_str()?.strip_prefix("node")?.parse::<usize>().ok()?;
        let list = parse_core_list(&fs::read_to_string(entry.path().join("cpulist")).ok()?);
        cores.distinct().iter().any(|core| list.contains(core)).then_some(number)
    };
    entries.unwrap_or_default().iter().filter_map(holds_one).collect::<BTreeSet<_>>().into_iter().collect()
}

fn heat_throttles(root: &Path, cores: &CoreMap) -> Option<u64> {
    let count = |core: &usize| {
        let path = format!("sys/devices/system/cpu/cpu{core}/thermal_throttle/core_throttle_count");
        fs::read_to_string(root.join(path)).ok()?.trim().parse::<u64>().ok()
    };
    cores.distinct().iter().map(count).sum()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::Settings;
    use crate::machine::CoreMap;

    fn write(root: &Path, path: &str, text: &str) {
        let file = root.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    #[test]
    fn settings_are_read_where_the_kernel_shows_them() {
        let root = std::env::temp_dir().join(format!("bench-settings-{}", std::process::id()));
        let cores = CoreMap { system: 0, origin: 9, generator: 9 };
        write(&root, "sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n");
        write(&root, "proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n");
        write(&root, "proc/sys/net/ipv4/tcp_tw_reuse", "2\n");
        write(&root, "proc/self/cgroup", "0::/a/b\n");
        write(&root, "sys/fs/cgroup/a/b/cpu.max", "150000 100000\n");
        write(&root, "sys/fs/cgroup/a/b/cpu.stat", "usage_usec 5\nnr_throttled 7\n");
        write(&root, "sys/devices/system/node/node0/cpulist", "0-7\n");
        write(&root, "sys/devices/system/node/node1/cpulist", "8-15\n");
        write(&root, "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count", "3\n");
        let settings = Settings::read(&root, &cores);
        assert_eq!(settings.huge_pages.as_deref(), Some("always"));
        assert_eq!((settings.local_ports, settings.tcp_tw_reuse), (Some((32_768, 60_999)), Some(2)));
        assert_eq!((settings.cpu_quota, settings.quota_throttles), (Some(1.5), Some(7)));
        assert_eq!((settings.nodes.as_slice(), settings.heat_throttles), (&[0, 1][..], None), "core 9 counts no heat");
        let later = Settings { quota_throttles: Some(9), ..settings.clone() };
        assert_eq!((later.throttles_since(&settings), Settings::default().throttles_since(&settings)), (Some(2), None));
        // The older hierarchy, and no limit in it.
        write(&root, "proc/self/cgroup", "1:cpu:/x\n");
        write(&root, "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "-1\n");
        write(&root, "sys/fs/cgroup/cpu/x/cpu.cfs_period_us", "100000\n");
        assert_eq!(Settings::read(&root, &cores).cpu_quota, None);
        fs::remove_dir_all(root).unwrap();
    }
}
