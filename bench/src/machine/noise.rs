//! What disturbs the measured cores while nobody measures: interrupts, other programs, the hypervisor.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Jiffies;

/// What was seen over a moment of watching.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Noise {
    /// Of devices, on each core, a second.
    pub interrupts_per_s: BTreeMap<usize, f64>,
    /// The source of most of them, by its last word in `/proc/interrupts`.
    pub interrupt_source: String,
    /// Whether a program moves interrupts about.
    pub irqbalance: bool,
    /// Share of the time of all cores that somebody used, and that the hypervisor gave to others.
    pub busy_share: f64,
    pub steal_share: f64,
}

/// One look.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// Name of a device's interrupt, and its count on each core.
    interrupts: BTreeMap<String, Vec<u64>>,
    /// The core of each column.
    cores: Vec<usize>,
    jiffies: Option<Jiffies>,
}

impl Look {
    /// Below `root`, which is `/` but in tests.
    pub fn take(root: &Path) -> Self {
        let text = fs::read_to_string(root.join("proc/interrupts")).unwrap_or_default();
        let mut lines = text.lines();
        let header = lines.next().unwrap_or_default();
        let cores: Vec<usize> =
            header.split_whitespace().filter_map(|word| word.strip_prefix("CPU")?.parse().ok()).collect();
        // Lines of devices begin with a number; the kernel's own (timers, calls between cores) with letters.
        let interrupts = lines.filter_map(|line| {
            let (number, rest) = line.trim().split_once(':')?;
            number.parse::<u32>().ok()?;
            let counts: Vec<u64> =
                rest.split_whitespace().take(cores.len()).map_while(|word| word.parse().ok()).collect();
            let name = rest.split_whitespace().next_back().unwrap_or_default();
            Some((format!("{number} {name}"), counts))
        });
        Self { interrupts: interrupts.collect(), jiffies: Jiffies::read(root), cores }
    }

    /// What happened since an earlier look.
    pub fn since(&self, earlier: &Self, seconds: f64, root: &Path) -> Noise {
        let mut interrupts_per_s: BTreeMap<usize, f64> = BTreeMap::new();
        let mut most = (0.0, String::new());
        for (name, counts) in &self.interrupts {
            let before = earlier.interrupts.get(name);
            let mut all = 0.0;
            for (index, (core, count)) in self.cores.iter().zip(counts).enumerate() {
                let more = count.saturating_sub(before.and_then(|counts| counts.get(index)).copied().unwrap_or(*count));
                // Interrupts of a second.
                let rate = more as f64 / seconds;
                *interrupts_per_s.entry(*core).or_default() += rate;
                all += rate;
            }
            if all > most.0 {
                most = (all, name.split(' ').next_back().unwrap_or_default().to_owned());
            }
        }
        let shares = earlier.jiffies.zip(self.jiffies);
        Noise {
            interrupts_per_s,
            interrupt_source: most.1,
            irqbalance: runs(root, "irqbalance"),
            busy_share: shares.map_or(0.0, |(before, now)| now.busy_share_since(before)),
            steal_share: shares.map_or(0.0, |(before, now)| now.steal_share_since(before)),
        }
    }
}

/// Whether a program of this name runs.
fn runs(root: &Path, name: &str) -> bool {
    let entries = fs::read_dir(root.join("proc")).map(|entries| entries.flatten().collect::<Vec<_>>());
    entries.unwrap_or_default().iter().any(|entry| {
        entry.file_name().to_str().is_some_and(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
            && fs::read_to_string(entry.path().join("comm")).is_ok_and(|comm| comm.trim() == name)
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::Look;

    /// Two devices on two cores; a timer of the kernel's own does not count.
    #[test]
    fn interrupts_of_devices_are_counted_by_core() {
        let root = std::env::temp_dir().join(format!("bench-noise-{}", std::process::id()));
        fs::create_dir_all(root.join("proc/77")).unwrap();
        let write = |net: u64, timer: u64, busy: u64| {
            let text = format!(
                "           CPU0       CPU1       \n 24:   {net}   5  MSI 1-edge  virtio-rx\n 25:   0   7  IO ACPI:Ged\nLOC:  {timer}  {timer}   Local timer interrupts\n"
            );
            fs::write(root.join("proc/interrupts"), text).unwrap();
            fs::write(root.join("proc/stat"), format!("cpu  {busy} 0 0 100 0 0 0 0 0 0\n")).unwrap();
        };
        write(100, 1000, 0);
        fs::write(root.join("proc/77/comm"), "irqbalance\n").unwrap();
        let before = Look::take(&root);
        write(1100, 9000, 100);
        let noise = Look::take(&root).since(&before, 0.5, &root);
        assert_eq!((noise.interrupts_per_s[&0], noise.interrupts_per_s[&1]), (2000.0, 0.0));
        assert_eq!((noise.interrupt_source.as_str(), noise.irqbalance), ("virtio-rx", true));
        assert!((noise.busy_share - 1.0).abs() < 1e-12);
        fs::remove_dir_all(root).unwrap();
    }
}
