//! The agent that takes a submitted row to a back-end server: numbers it, posts it, records the outcome.
//!
//! Each step is committed before the next begins, so the agent may end anywhere and be run again: the number is kept,
//! the back-end server sees the same idempotency key, and a finished piece of work is left alone.

use std::time::Duration;

use super::agents::{PostAgent, WorkState, clip};
use super::backend::{Answer, Call, Failure};
use super::bridge::Mutated;
use super::executor;
use super::unit::AgentRun;
use super::work::{End, Progress, Shared, Ticket, count};
use crate::database::contract::{Change, Mutation};
use crate::tables::{Record, Update, Value};

/// The longest pause between two attempts, whatever the code table or the back-end server says.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Bytes of the back-end server's answer that the work row keeps.
const ANSWER_BYTES_MAX: usize = 512;

/// What an attempt came to.
enum Attempt {
    /// 2xx: the back-end server has it.
    Taken(Answer),
    /// Never going to work: the reason.
    Refused(String),
    /// May work later: the reason, and the pause that the back-end server asked for.
    Later(String, Option<Duration>),
}

impl AgentRun {
    pub(super) fn ticket(&self) -> Ticket<'_> {
        Ticket {
            work: &self.work,
            agent: &self.agent.name,
            subject_table: &self.agent.table_name,
            subject_key: &self.subject_key,
            requested_by: &self.requested_by,
        }
    }
}

/// Runs the agent to its end.
pub(super) async fn run(shared: &Shared, run: &AgentRun) -> End {
    // A database server that cannot be reached leaves the row as it is, for the next start.
    attempt_all(shared, run).await.unwrap_or(End::Left)
}

/// Records that the work was given up from outside: its time is over, or the agent panicked.
pub(super) async fn give_up(shared: &Shared, run: &AgentRun, reason: &str) -> End {
    let failed: Result<End, String> = async {
        // It may have finished in the moment in which it was given up.
        let Some(attempts) = shared.open(&run.ticket()).await? else { return Ok(End::Done) };
        let progress = Progress { state: WorkState::Failed, attempts, reason, result: "" };
        close(shared, run, "failed", &progress).await
    }
    .await;
    failed.unwrap_or(End::Left)
}

async fn attempt_all(shared: &Shared, run: &AgentRun) -> Result<End, String> {
    let agent = &*run.agent;
    let ticket = run.ticket();
    let Some(attempts_before) = shared.open(&ticket).await? else { return Ok(End::Done) };
    let mut progress = Progress { state: WorkState::Failed, attempts: attempts_before, reason: "", result: "" };
    let Some(record) = subject(shared, run).await? else {
        let reason = format!("{} `{}` does not exist", agent.table_name, run.subject_key);
        progress.reason = &reason;
        return finish_alone(shared, &ticket, &progress).await;
    };
    let number = match &agent.number {
        None => None,
        Some(number) => match record.get(number.field).as_text().filter(|text| !text.is_empty()) {
            Some(kept) => Some(kept.to_owned()),
            None => Some(shared.number(agent, number).await?),
        },
    };
    let body = agent.body(&run.subject_key, number.as_deref(), &record);
    // What was being attempted when the process ended may have been the last attempt: it counts, but there is always
    // one more, since nobody knows how it went.
    let mut attempts = attempts_before.min(agent.attempts.saturating_sub(1));
    loop {
        attempts += 1;
        let begin = Progress { state: WorkState::Running, attempts, reason: "", result: "" };
        let mut mutations = vec![shared.progress(&ticket, &begin)];
        mutations.extend(mark(agent, run, number.as_deref(), "posting"));
        if let Mutated::Missing = shared.commit(mutations).await? {
            let reason = format!("{} `{}` was deleted meanwhile", agent.table_name, run.subject_key);
            progress = Progress { state: WorkState::Failed, attempts, reason: &reason, result: "" };
            return finish_alone(shared, &ticket, &progress).await;
        }
        match attempt(shared, run, &body).await {
            Attempt::Taken(answer) => {
                let result =
                    format!("{} {}", answer.status, clip(&String::from_utf8_lossy(&answer.body), ANSWER_BYTES_MAX));
                let done = Progress { state: WorkState::Done, attempts, reason: "", result: result.trim_end() };
                return close(shared, run, "posted", &done).await;
            }
            Attempt::Refused(reason) => {
                let failed = Progress { state: WorkState::Failed, attempts, reason: &reason, result: "" };
                return close(shared, run, "failed", &failed).await;
            }
            Attempt::Later(reason, _) if attempts >= agent.attempts => {
                let reason = format!("{reason}; given up after attempt {attempts}");
                let failed = Progress { state: WorkState::Failed, attempts, reason: &reason, result: "" };
                return close(shared, run, "failed", &failed).await;
            }
            Attempt::Later(reason, asked) => {
                let waiting = Progress { state: WorkState::Waiting, attempts, reason: &reason, result: "" };
                shared.commit(vec![shared.progress(&ticket, &waiting)]).await?;
                if !rest(shared, run, pause(shared, agent, attempts, asked)).await {
                    return Ok(End::Left);
                }
            }
        }
        count(&shared.counters.backend_retries);
    }
}

/// The subject's record, if the row exists.
async fn subject(shared: &Shared, run: &AgentRun) -> Result<Option<Record>, String> {
    let row = shared.bridge.read(run.agent.table, &run.subject_key).await?;
    Ok(row.and_then(|Update { record, .. }| record))
}

/// One request to the back-end server.
async fn attempt(shared: &Shared, run: &AgentRun, body: &[u8]) -> Attempt {
    let Some(backend) = shared.backends.get(&run.agent.backend) else {
        return Attempt::Refused(format!("the profile names no back-end server `{}`", run.agent.backend));
    };
    count(&shared.counters.backend_requests);
    let call = Call::post_json(&run.agent.path, &run.work, body);
    match backend.call(&call).await {
        Ok(answer) => match answer.status {
            200..=299 => Attempt::Taken(answer),
            408 | 429 => Attempt::Later(said(&run.agent, &answer), answer.retry_after),
            400..=499 => Attempt::Refused(said(&run.agent, &answer)),
            _ => Attempt::Later(said(&run.agent, &answer), answer.retry_after),
        },
        Err(failure) => match failure {
            Failure::CannotAsk(reason) => Attempt::Refused(reason),
            Failure::Connect(_)
            | Failure::ConnectTimeout(_)
            | Failure::Broken(_)
            | Failure::FirstByteTimeout(_)
            | Failure::TotalTimeout(_)
            | Failure::Malformed(_)
            | Failure::TooLarge(_) => {
                Attempt::Later(format!("{} at {}: {failure}", run.agent.backend, backend.address), None)
            }
        },
    }
}

fn said(agent: &PostAgent, answer: &Answer) -> String {
    let text = String::from_utf8_lossy(&answer.body);
    let line = clip(text.lines().next().unwrap_or(""), 120);
    let colon = if line.is_empty() { "" } else { ": " };
    format!("{} answered {}{colon}{line}", agent.backend, answer.status)
}

/// Pause before the next attempt: doubles each time, between half and all of it by the seed, so that agents that
/// failed together do not come back together; never shorter than the back-end server asked for.
fn pause(shared: &Shared, agent: &PostAgent, attempts: u32, asked: Option<Duration>) -> Duration {
    let doubled = agent.backoff_ms.saturating_mul(1 << attempts.saturating_sub(1).min(20));
    let half = doubled / 2;
    let jittered = half + shared.random.borrow_mut().below(doubled - half + 1);
    Duration::from_millis(jittered).max(asked.unwrap_or_default()).min(PAUSE_MAX)
}

/// Sleeps; `false` if the unit stops, which the row's `waiting` survives.
async fn rest(shared: &Shared, run: &AgentRun, pause: Duration) -> bool {
    if shared.inbox.is_stopping() {
        return false;
    }
    shared.note_rest(&run.work, true);
    executor::sleep(pause).await;
    shared.note_rest(&run.work, false);
    !shared.inbox.is_stopping()
}

/// The change that puts number and outcome into the subject row, if the agent has such fields.
fn mark(agent: &PostAgent, run: &AgentRun, number: Option<&str>, outcome: &str) -> Option<Mutation> {
    let mut fields = Vec::new();
    if let (Some(place), Some(number)) = (&agent.number, number) {
        fields.push((place.field, Value::text(number)));
    }
    if let Some(field) = agent.outcome {
        fields.push((field, Value::text(outcome)));
    }
    let change = (!fields.is_empty()).then_some(Change::Set(fields))?;
    Some(Mutation { table: agent.table, key: run.subject_key.clone(), change })
}

/// Ends the work: its row and the subject's outcome in one transaction.
async fn close(shared: &Shared, run: &AgentRun, outcome: &str, progress: &Progress<'_>) -> Result<End, String> {
    let ticket = run.ticket();
    let mut mutations = vec![shared.progress(&ticket, progress)];
    mutations.extend(mark(&run.agent, run, None, outcome));
    match shared.commit(mutations).await? {
        Mutated::Committed(_) => Ok(end_of(progress.state)),
        // The subject was deleted while the back-end server had it: the work's own row still tells what happened.
        Mutated::Missing => finish_alone(shared, &ticket, progress).await,
    }
}

/// Ends the work without touching the subject, which is not there.
async fn finish_alone(shared: &Shared, ticket: &Ticket<'_>, progress: &Progress<'_>) -> Result<End, String> {
    shared.put(ticket, progress).await?;
    Ok(end_of(progress.state))
}

fn end_of(state: WorkState) -> End {
    match state {
        WorkState::Done => End::Done,
        WorkState::Failed => End::Failed,
        WorkState::Queued | WorkState::Running | WorkState::Waiting => End::Left,
    }
}
