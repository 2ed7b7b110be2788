//! Which core carries which server: derived from the profile and the machine's topology before any thread starts.

use std::collections::BTreeMap;
use std::path::Path;

use crate::profile::{PlacementKind, Profile};
use crate::tables::stamp::SERVERS_MAX;

/// One hardware thread of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    pub number: usize,
    /// The physical core: equal for SMT siblings.
    pub core: usize,
    pub node: usize,
}

/// The hardware threads that this process may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    pub cpus: Vec<Cpu>,
}

impl Topology {
    /// Reads `/sys/devices/system` for the given CPUs; what it does not tell counts as one node without SMT.
    pub fn read(allowed: &[usize]) -> Self {
        let number_in = |path: String| std::fs::read_to_string(path).ok().and_then(|text| first_number(&text));
        let cpus = allowed
            .iter()
            .map(|&number| {
                let siblings = format!("/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list");
                let core = number_in(siblings).unwrap_or(number);
                let node = (0..64)
                    .find(|node| Path::new(&format!("/sys/devices/system/node/node{node}/cpu{number}")).exists());
                Cpu { number, core, node: node.unwrap_or(0) }
            })
            .collect();
        Self { cpus }
    }

    fn cpu(&self, number: usize) -> Cpu {
        let known = self.cpus.iter().find(|cpu| cpu.number == number);
        known.copied().unwrap_or(Cpu { number, core: number, node: 0 })
    }
}

fn first_number(text: &str) -> Option<usize> {
    text.trim().split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}

/// One worker: a pinned thread with an engine and its servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerPlan {
    pub cpu: Cpu,
    /// Number of the front server on it.
    pub front: Option<u16>,
    /// Number of the replica server on it.
    pub replica: Option<u8>,
}

/// The whole placement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    pub workers: Vec<WorkerPlan>,
    /// Core of the storage, database, passwords and admin threads; `None` leaves them to the scheduler.
    pub housekeeping: Option<usize>,
    /// CPUs of the profile that this machine does not have or does not allow.
    pub absent: Vec<usize>,
    /// What the reader should know, in sentences.
    pub remarks: Vec<String>,
}

impl Placement {
    pub fn fronts(&self) -> usize {
        self.workers.iter().filter(|worker| worker.front.is_some()).count()
    }

    pub fn replicas(&self) -> usize {
        self.workers.iter().filter(|worker| worker.replica.is_some()).count()
    }

    /// The worker that carries each replica, by replica number.
    pub fn replica_workers(&self) -> Vec<usize> {
        let mut carriers: Vec<(u8, usize)> = self
            .workers
            .iter()
            .enumerate()
            .filter_map(|(index, worker)| worker.replica.map(|replica| (replica, index)))
            .collect();
        carriers.sort_unstable();
        carriers.into_iter().map(|(_, index)| index).collect()
    }
}

/// Derives the placement.
///
/// # Errors
/// A core list that cannot be read or is too short for two fronts and two replicas on cores of their own.
pub fn place(profile: &Profile, topology: &Topology) -> Result<Placement, String> {
    let mut remarks = Vec::new();
    let mut cpus: Vec<Cpu> = if profile.cluster.cores == "auto" {
        topology.cpus.clone()
    } else {
        parse_list(&profile.cluster.cores)?.into_iter().map(|number| topology.cpu(number)).collect()
    };
    let absent: Vec<usize> = cpus
        .iter()
        .filter(|cpu| !topology.cpus.iter().any(|known| known.number == cpu.number))
        .map(|cpu| cpu.number)
        .collect();
    if !profile.cluster.smt {
        let before = cpus.len();
        let mut seen = std::collections::BTreeSet::new();
        cpus.retain(|cpu| seen.insert(cpu.core));
        if cpus.len() < before {
            remarks.push(format!(
                "{} SMT siblings are left idle (cluster.smt = false): a sibling halves its core",
                before - cpus.len()
            ));
        }
    }
    if cpus.is_empty() {
        return Err("no core is left: widen cluster.cores or the process's CPU affinity".into());
    }
    let housekeeping = housekeeping(profile, &mut cpus, &mut remarks)?;
    let workers = match profile.cluster.placement {
        PlacementKind::Shared => shared(profile, &cpus, &mut remarks),
        PlacementKind::Separate => separate(profile, &cpus, &mut remarks)?,
    };
    Ok(Placement { workers, housekeeping, absent, remarks })
}

fn housekeeping(profile: &Profile, cpus: &mut Vec<Cpu>, remarks: &mut Vec<String>) -> Result<Option<usize>, String> {
    match profile.cluster.housekeeping.as_str() {
        "none" => Ok(None),
        "auto" if cpus.len() <= 4 => {
            remarks.push(format!(
                "{} cores: the storage, database and admin threads share them with the workers",
                cpus.len()
            ));
            Ok(None)
        }
        "auto" => Ok(Some(cpus.remove(0).number)),
        text => {
            let number = text
                .parse()
                .map_err(|_| format!("cluster.housekeeping = `{text}`: write auto, none or a core number"))?;
            cpus.retain(|cpu| cpu.number != number);
            Ok(Some(number))
        }
    }
}

/// Every worker a front and a replica; at least two of them, if need be on one core.
fn shared(profile: &Profile, cpus: &[Cpu], remarks: &mut Vec<String>) -> Vec<WorkerPlan> {
    let wanted = profile.cluster.fronts.max(profile.cluster.replicas);
    let count = if wanted > 0 { wanted } else { cpus.len().clamp(2, SERVERS_MAX - 1) };
    if count < cpus.len() {
        remarks.push(format!(
            "{} cores stay unused: at most {} replicas; more cores serve with placement = \"separate\"",
            cpus.len() - count,
            SERVERS_MAX - 1
        ));
    }
    if count > cpus.len() {
        remarks.push(format!("{count} workers share {} cores: fine for trying out, not for measuring", cpus.len()));
    }
    let fronts = if profile.cluster.fronts > 0 { profile.cluster.fronts } else { count };
    let replicas = if profile.cluster.replicas > 0 { profile.cluster.replicas } else { count.min(SERVERS_MAX - 1) };
    (0..count)
        .map(|index| WorkerPlan {
            cpu: cpus[index % cpus.len()],
            front: (index < fronts).then(|| u16::try_from(index).unwrap_or(u16::MAX)),
            replica: (index < replicas).then(|| u8::try_from(index).unwrap_or(u8::MAX)),
        })
        .collect()
}

/// Each server on a core of its own. Within every NUMA node the servers of both kinds alternate, so that most
/// requests find a replica on their own node.
fn separate(profile: &Profile, cpus: &[Cpu], remarks: &mut Vec<String>) -> Result<Vec<WorkerPlan>, String> {
    let half = cpus.len() / 2;
    let replicas = if profile.cluster.replicas > 0 { profile.cluster.replicas } else { half.clamp(2, SERVERS_MAX - 1) };
    let fronts =
        if profile.cluster.fronts > 0 { profile.cluster.fronts } else { cpus.len().saturating_sub(replicas).max(2) };
    if cpus.len() < fronts + replicas {
        return Err(format!(
            "{fronts} fronts and {replicas} replicas need {} cores of their own, {} are there: widen cluster.cores, lower \
             cluster.fronts or cluster.replicas, or write placement = \"shared\"",
            fronts + replicas,
            cpus.len()
        ));
    }
    if cpus.len() > fronts + replicas {
        remarks.push(format!("{} cores stay unused", cpus.len() - fronts - replicas));
    }
    let mut by_node: BTreeMap<usize, Vec<Cpu>> = BTreeMap::new();
    for &cpu in cpus {
        by_node.entry(cpu.node).or_default().push(cpu);
    }
    // Cores are dealt round the nodes, so that both kinds of server land on every node.
    let mut order: Vec<Cpu> = Vec::with_capacity(cpus.len());
    let longest = by_node.values().map(Vec::len).max().unwrap_or(0);
    for pair in 0..longest.div_ceil(2) {
        for node in by_node.values() {
            order.extend(node.iter().skip(pair * 2).take(2).copied());
        }
    }
    let (mut front, mut replica) = (0, 0);
    let mut workers = Vec::with_capacity(fronts + replicas);
    for cpu in order {
        let front_next = front < fronts && (replica >= replicas || front * replicas <= replica * fronts);
        if front_next {
            workers.push(WorkerPlan { cpu, front: Some(u16::try_from(front).unwrap_or(u16::MAX)), replica: None });
            front += 1;
        } else if replica < replicas {
            workers.push(WorkerPlan { cpu, front: None, replica: Some(u8::try_from(replica).unwrap_or(u8::MAX)) });
            replica += 1;
        }
    }
    Ok(workers)
}

/// Reads `0-3,8,10-11`.
fn parse_list(text: &str) -> Result<Vec<usize>, String> {
    let wrong = || format!("cluster.cores = `{text}`: write auto, or a list such as 0-7,16");
    let mut numbers = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.trim().split_once('-').unwrap_or((part.trim(), part.trim()));
        let (first, last): (usize, usize) = (first.parse().map_err(|_| wrong())?, last.parse().map_err(|_| wrong())?);
        if last < first || last > 4095 {
            return Err(wrong());
        }
        numbers.extend(first..=last);
    }
    numbers.sort_unstable();
    numbers.dedup();
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(cluster: &str) -> Profile {
        toml::from_str(&format!("[cluster]\nname = \"t\"\n{cluster}\n[storage]\nstatements = \"s\"\n")).unwrap()
    }

    fn machine(cores: usize, threads: usize, nodes: usize) -> Topology {
        let cpu = |number: usize| Cpu { number, core: number % cores, node: (number % cores) * nodes / cores };
        Topology { cpus: (0..cores * threads).map(cpu).collect() }
    }

    #[test]
    fn one_core_still_carries_two_fronts_and_two_replicas() {
        let placement = place(&profile(""), &machine(1, 1, 1)).unwrap();
        assert_eq!((placement.fronts(), placement.replicas()), (2, 2));
        assert!(placement.workers.iter().all(|worker| worker.cpu.number == 0));
        assert_eq!(placement.housekeeping, None);
    }

    #[test]
    fn two_cores_share() {
        let placement = place(&profile(""), &machine(2, 1, 1)).unwrap();
        assert_eq!(placement.workers.len(), 2);
        assert_eq!(placement.replica_workers(), vec![0, 1]);
    }

    #[test]
    fn separate_servers_have_cores_of_their_own_on_every_node() {
        let placement = place(&profile("placement = \"separate\"\ncores = \"0-31\""), &machine(16, 2, 2)).unwrap();
        assert_eq!(placement.housekeeping, Some(0));
        assert_eq!(placement.fronts() + placement.replicas(), 15);
        let mut numbers: Vec<usize> = placement.workers.iter().map(|worker| worker.cpu.number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 15, "no core twice, no sibling");
        for node in 0..2 {
            let on_node = || placement.workers.iter().filter(move |worker| worker.cpu.node == node);
            assert!(on_node().any(|worker| worker.front.is_some()) && on_node().any(|worker| worker.replica.is_some()));
        }
    }

    #[test]
    fn too_few_cores_are_refused_with_the_cure() {
        let wrong =
            place(&profile("placement = \"separate\"\nfronts = 4\nreplicas = 4"), &machine(6, 1, 1)).unwrap_err();
        assert!(wrong.contains("placement = \"shared\""), "{wrong}");
        assert!(place(&profile("cores = \"3-1\""), &machine(6, 1, 1)).unwrap_err().contains("0-7,16"));
    }

    #[test]
    fn absent_cores_are_named() {
        assert_eq!(place(&profile("cores = \"0-3\""), &machine(2, 1, 1)).unwrap().absent, vec![2, 3]);
    }
}
