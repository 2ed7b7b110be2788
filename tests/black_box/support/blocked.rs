//! Programs where io_uring is blocked.

use std::process::{Command, Stdio};

use super::site::Folder;

/// A command behind a filter that blocks io_uring, see `without_uring.c`; the filter's program lies in `folder`.
pub fn blocked(folder: &Folder, command: &Command) -> Command {
    let filter = folder.path("without_uring");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/black_box/support/without_uring.c");
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let compiled = Command::new(&compiler).arg("-o").arg(&filter).arg(source).status();
    assert!(
        compiled.is_ok_and(|status| status.success()),
        "`{compiler}` cannot compile {source}: install a C compiler"
    );
    let mut blocked = Command::new(filter);
    blocked.arg(command.get_program()).args(command.get_args());
    blocked.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    blocked
}
