//! Signing in: the password is checked off the workers, and the front makes the session's cookie.

use crate::replica::job::{Accept, Job, SessionChange};
use crate::tables::code::{Action, user_profile};

use super::action::Wrong;
use super::input::{Errors, Sent};
use super::who::{active, recognize};
use super::{Call, Refusal, Scene, Step, Verify, form, json, page};

/// Hands the password over for its check.
pub fn begin(call: &Call<'_>, action: &Action, sent: &Sent) -> Result<Step, Wrong> {
    sent.check(&action.inputs)?;
    let user = sent.text("user").unwrap_or("").trim();
    let hash = active(call.scene, user).and_then(|profile| profile.get(user_profile::PASSWORD_HASH).as_text());
    Ok(Step::Verify(Verify {
        user: user.into(),
        hash: hash.unwrap_or(call.scene.decoy_hash).into(),
        password: sent.text("password").unwrap_or("").into(),
        known: hash.is_some(),
    }))
}

/// Completes the response of a job whose password has been checked. Returns the code's fault if there is one.
pub fn verified(scene: Scene<'_>, user: &str, right: bool, job: &mut Job) -> Option<String> {
    let application = scene.code.application(&job.application)?;
    let path = std::mem::take(&mut job.path);
    let who = recognize(scene, &mut job.identity);
    let found = application.router.find(&path);
    let (post, values) = found.map(|found| (found.route.post, found.values)).unwrap_or_default();
    let call = Call { scene, application, who, values };
    let action = post.map(|index| &application.actions[index]);
    let outcome = match action {
        Some(action) => answer(&call, action, user, right, &path, job),
        None => Err(Refusal::missing()),
    };
    if let Err(refusal) = &outcome {
        page::refuse(Some(&call), &path, job, refusal);
    }
    job.path = path;
    outcome.err().and_then(|refusal| refusal.fault)
}

fn answer(call: &Call<'_>, action: &Action, user: &str, right: bool, path: &str, job: &mut Job) -> Result<(), Refusal> {
    let sent = Sent::parse(&job.content_type, &job.body)?;
    // The user may have been made inactive while the password was checked.
    if !right || active(call.scene, user).is_none() {
        let errors: Errors = vec![("password".into(), "The name or the password is wrong.".to_owned())];
        let refusal = Refusal::new(422, "The name or the password is wrong.");
        return form::again(call, action, &sent, &errors, refusal, path, job);
    }
    let next = sent.text("next").filter(|next| is_local(next));
    let location = next.map_or_else(
        || {
            let below = call.fill(&action.location, &action.path, |_| None).unwrap_or_else(|| "/".into());
            format!("{}{below}", job.mount)
        },
        str::to_owned,
    );
    job.response.session = SessionChange::Begin { user: user.to_owned() };
    job.response.cache_control = "no-store";
    if job.accept == Accept::Html {
        job.response.status = 303;
        job.response.location = location;
        return Ok(());
    }
    job.response.status = 200;
    job.response.content_type = page::JSON;
    let body = &mut job.response.body;
    body.clear();
    body.push(b'{');
    for (name, value) in [("user", user), ("location", &location)] {
        json::name(name, body);
        json::text(value, body);
    }
    body.push(b'}');
    Ok(())
}

/// Whether a path stays on this site: `//host` and `/\host` are other sites to a browser.
fn is_local(next: &str) -> bool {
    next.starts_with('/')
        && !next.starts_with("//")
        && next.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'"' | b'<' | b'>'))
}

#[cfg(test)]
mod tests {
    use super::is_local;

    #[test]
    fn only_local_paths() {
        assert!(is_local("/reqcat/items?words=a%20b&page=2"));
        for wrong in
            ["", "reqcat", "//evil", "/\\evil", "https://evil", "/a\r\nSet-Cookie: x", "/a b", "/é", "javascript:1"]
        {
            assert!(!is_local(wrong), "{wrong}");
        }
    }
}
