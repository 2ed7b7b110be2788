//! Connections that are held beside a load: idle ones, whose memory is measured, or slow ones, which must not be felt.
//!
//! ```text
//!   load for half a second ─▶ all connections open ─▶ memory ─▶ the measured load ─▶ memory
//!   (buffers are touched)                             after                          loaded
//! ```
//! What idle connections cost is counted from the same system without them, started with the sizes of a load without
//! them: a server that takes its memory at the start pays for its connections as well.
//!
//! The holder is `loadgen hold`, on the generator's core. Its connections come from many addresses of 127.0.0.0/8, so
//! that neither ports nor limits by client get in the way.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::case::Case;
use crate::failure::Failure;
use crate::machine::ProcessGroup;
use crate::memory::{Held, Memory};
use crate::process::{Order, Process};
use crate::trial::{GeneratorOrder, Lab};

/// For all connections to be open.
const OPEN_DEADLINE: Duration = Duration::from_secs(180);
/// From the last connection to the look at memory: what the system does about them is done.
const SETTLE: Duration = Duration::from_millis(500);
/// For the holder to say what became of them.
const END_DEADLINE: Duration = Duration::from_secs(15);
/// Seconds of load before the first look at memory.
const TOUCH_S: f64 = 0.5;
/// Addresses that the connections come from.
const SOURCE_ADDRESSES: &str = "100";
/// Between two bytes of a slow head.
const DRIP_MS: u64 = 2000;

/// What is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    pub connections: u32,
    /// Each drips a head that never ends, instead of staying idle after one request.
    pub slow: bool,
}

impl Hold {
    pub fn idle(connections: u32) -> Self {
        Self { connections, slow: false }
    }

    pub fn slow(connections: u32) -> Self {
        Self { connections, slow: true }
    }
}

/// Memory of a system after half a second of load.
///
/// # Errors
/// The generator fails; a signal arrives.
pub fn touched_memory(
    lab: &Lab,
    case: &Case,
    url: &str,
    group: &ProcessGroup,
    folder: &Path,
) -> Result<Memory, Failure> {
    let touch = GeneratorOrder {
        url,
        rate: None,
        connections: case.connections,
        new_connections: false,
        warmup_s: 0.0,
        duration_s: TOUCH_S,
        seed: 1,
        folder,
        server_timing: false,
    };
    lab.generate(&touch, |_| Ok(()))?;
    lab.interrupt.wait_for(SETTLE, || Ok(None::<()>))?;
    Ok(Memory::read(Path::new("/proc"), group.processes()))
}

/// The holder while it holds.
#[derive(Debug)]
pub struct Holding {
    process: Process,
    held: u32,
    before: Memory,
    after: Memory,
}

impl Holding {
    /// Warms the system up, opens the connections and waits until they are there. `base` is the memory of the system
    /// where it was not made for them; without it what the system has before they come.
    ///
    /// # Errors
    /// They cannot be opened in time; a signal arrives.
    pub fn begin(
        lab: &Lab,
        hold: Hold,
        case: &Case,
        url: &str,
        group: &ProcessGroup,
        folder: &Path,
        base: Option<Memory>,
    ) -> Result<Self, Failure> {
        let touched = touched_memory(lab, case, url, group, &folder.join("touch"))?;
        let before = base.unwrap_or(touched);
        let (connections, core, drip) =
            (hold.connections.to_string(), lab.cores.generator.to_string(), DRIP_MS.to_string());
        let mut arguments =
            vec!["hold", url, "--connections", &connections, "--source-addresses", SOURCE_ADDRESSES, "--core", &core];
        if hold.slow {
            arguments.extend(["--drip-ms", &drip]);
        }
        let mut process = Process::start(&Order::new("hold", &lab.programs.loadgen, &arguments, folder))?;
        let line = process.ready(&lab.interrupt, OPEN_DEADLINE)?;
        let held = u32::try_from(line.number("held")).unwrap_or(0);
        lab.interrupt.wait_for(SETTLE, || Ok(None::<()>))?;
        let after = Memory::read(Path::new("/proc"), group.processes());
        Ok(Self { process, held, before, after })
    }

    /// Looks at memory once more and lets the connections go.
    ///
    /// # Errors
    /// The holder does not say what became of them; a signal arrives.
    pub fn end(mut self, lab: &Lab, group: &ProcessGroup) -> Result<Held, Failure> {
        let loaded = Memory::read(Path::new("/proc"), group.processes());
        self.process.ask_to_stop();
        lab.interrupt.wait_for(END_DEADLINE, || self.process.ended())?;
        let line = self.process.line("ended").ok_or_else(|| {
            Failure::Failed(format!("loadgen hold did not say what became of its connections{}", self.process.quote()))
        })?;
        Ok(Held {
            held: self.held,
            closed: line.number("closed"),
            reopened: line.number("reopened"),
            before: self.before,
            after: self.after,
            loaded,
        })
    }
}
