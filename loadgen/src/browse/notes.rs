//! What the loop tells the recording of a run's first sessions.

use twintier::engine::Engine;

use super::{Driver, Job, LINES_PER_USER};
use crate::browser::{Fetch, Role};
use crate::connection::position;
use crate::har::record::{End, Recording, SessionId};
use crate::recorder::Outcome;

impl<E: Engine> Driver<'_, E> {
    /// Tells the recording about a user whose session is written down.
    pub(super) fn note(&mut self, user: u32, what: impl FnOnce(&mut Recording, SessionId)) {
        if let Some((recording, session)) = self.recording.as_mut().zip(self.slots[position(user)].recorded) {
            what(recording, session);
        }
    }

    pub(super) fn note_wanted(&mut self, user: u32, fetch: &Fetch, planned_ns: u64) -> Option<usize> {
        let (recording, session) = self.recording.as_mut().zip(self.slots[position(user)].recorded)?;
        let kind = match fetch.role {
            Role::Document => "document",
            Role::Sheet => "stylesheet",
            Role::Asset => "other",
        };
        if fetch.role == Role::Document && fetch.redirects == 0 {
            recording.begin_page(session, &fetch.path, planned_ns);
        }
        recording.wanted(session, kind, &fetch.path, planned_ns)
    }

    pub(super) fn note_ended(&mut self, index: u32, job: &Job, end_ns: u64, outcome: Outcome, body_bytes: u64) {
        let Some((recording, entry)) = self.recording.as_mut().zip(job.entry) else { return };
        let (status, why) = match outcome {
            Outcome::Completed { status } => (Some(status), None),
            Outcome::Failed { why, status } => (status, Some(why.name())),
            Outcome::InFlight => (None, Some("in flight at the end")),
        };
        recording.ended(
            entry,
            &End {
                stamps: job.stamps,
                connected_ns: job.connected_ns,
                end_ns,
                connection: Some(index % LINES_PER_USER),
                status,
                why,
                headers: self.jobs[position(index)].incoming.headers(),
                body_bytes,
            },
        );
    }
}
