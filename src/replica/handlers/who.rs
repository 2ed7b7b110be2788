//! Who asks: the identity that the front verified, checked against users and ended sessions.

use minijinja::Value as Shown;

use crate::authority::session::Identity;
use crate::authority::table::roles_of;
use crate::tables::Row;
use crate::tables::code::{SESSION_ENDED, USER_PROFILE, user_profile};
use crate::tables::record::Value;

use super::Scene;

/// A visitor, or a signed-in user with the profile as it is now.
#[derive(Clone, Copy)]
pub struct Who<'a> {
    profile: Option<&'a Row>,
}

/// Looks the identity up. One whose session has ended is cleared, one whose user is gone or inactive is a visitor.
pub fn recognize<'a>(scene: Scene<'a>, identity: &mut Identity) -> Who<'a> {
    let ended = !identity.session.is_empty() && scene.tables.get(SESSION_ENDED, &identity.session).is_some();
    if ended || identity.session.is_empty() {
        identity.user.clear();
        identity.session.clear();
        identity.csrf.clear();
        identity.expires_ms = 0;
    }
    let profile = if identity.user.is_empty() { None } else { active(scene, &identity.user) };
    if profile.is_none() {
        identity.user.clear();
    }
    Who { profile }
}

/// The profile of a user who may sign in.
pub fn active<'a>(scene: Scene<'a>, user: &str) -> Option<&'a Row> {
    scene.tables.get(USER_PROFILE, user).filter(|row| *row.get(user_profile::ACTIVE) == Value::Boolean(true))
}

impl<'a> Who<'a> {
    pub fn signed_in(&self) -> bool {
        self.profile.is_some()
    }

    pub fn name(&self) -> &'a str {
        self.profile.map_or("", |profile| &profile.key)
    }

    pub fn roles(&self) -> impl Iterator<Item = &'a str> + Clone {
        roles_of(self.profile.map(|profile| profile.get(user_profile::ROLES).as_text().unwrap_or("")))
    }

    /// The revision of the profile: pages show parts of it.
    pub fn stamp(&self) -> crate::tables::Stamp {
        self.profile.map_or_else(Default::default, |profile| profile.stamp)
    }

    /// `user` of templates and expressions.
    pub fn shown(&self) -> Shown {
        let text =
            |field: usize| Shown::from(self.profile.and_then(|profile| profile.get(field).as_text()).unwrap_or(""));
        Shown::from_pairs([
            ("name", Shown::from(self.name())),
            ("full_name", text(user_profile::NAME)),
            ("department", text(user_profile::DEPARTMENT)),
            ("email", text(user_profile::EMAIL)),
            ("roles", Shown::from(self.roles().map(Shown::from).collect::<Vec<_>>())),
            ("signed_in", Shown::from(self.signed_in())),
        ])
    }
}
