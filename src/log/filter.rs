//! Which lines are written: a level for all, and others for single places.

use std::fmt;
use std::str::FromStr;

use log::{Level, LevelFilter};

/// Places with a level of their own at most.
const PLACES_MAX: usize = 32;

/// `info`, or `info,database=debug,front=off`: the most talkative level that is written, and of single places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    all: LevelFilter,
    places: Vec<(Box<str>, LevelFilter)>,
}

impl Default for Filter {
    fn default() -> Self {
        Self { all: LevelFilter::Info, places: Vec::new() }
    }
}

/// The room of a module of ours (`twintier::database::server` is `database`), or the name of another crate.
pub fn place(target: &str) -> &str {
    let inside = target.strip_prefix("twintier::").unwrap_or(target);
    inside.split("::").next().unwrap_or(inside)
}

impl Filter {
    pub fn takes(&self, level: Level, target: &str) -> bool {
        let place = place(target);
        let own = self.places.iter().find(|(name, _)| **name == *place);
        // The libraries below are as talkative as their authors: by default only what goes wrong there counts.
        let all = if target.starts_with("twintier") { self.all } else { self.all.min(LevelFilter::Warn) };
        level <= own.map_or(all, |(_, level)| *level)
    }

    /// The most talkative level that any place has.
    pub fn most(&self) -> LevelFilter {
        self.places.iter().map(|(_, level)| *level).fold(self.all, std::cmp::Ord::max)
    }
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let level = |word: &str| {
            let known = ["off", "error", "warn", "info", "debug", "trace"].contains(&word);
            let level = known.then(|| word.parse::<LevelFilter>().ok()).flatten();
            level.ok_or_else(|| format!("`{word}` is no level: write off, error, warn, info, debug or trace"))
        };
        let mut filter = Self::default();
        for part in text.split(',').map(str::trim) {
            match part.split_once('=') {
                None => filter.all = level(part)?,
                Some((name, _)) if name.is_empty() || filter.places.len() >= PLACES_MAX => {
                    return Err(format!(
                        "`{part}` names no place, or one too many: write PLACE=LEVEL, {PLACES_MAX} at most"
                    ));
                }
                Some((name, word)) => filter.places.push((name.into(), level(word)?)),
            }
        }
        Ok(filter)
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.all.as_str().to_ascii_lowercase())?;
        self.places.iter().try_for_each(|(name, level)| write!(out, ",{name}={}", level.as_str().to_ascii_lowercase()))
    }
}

#[cfg(test)]
mod tests {
    use super::{Filter, Level, place};

    #[test]
    fn places_have_levels_of_their_own() {
        let filter: Filter = "warn, database=debug,front=off".parse().unwrap();
        assert!(filter.takes(Level::Debug, "twintier::database::server"));
        assert!(!filter.takes(Level::Error, "twintier::front::checks"));
        assert!(
            filter.takes(Level::Warn, "twintier::supervisor") && !filter.takes(Level::Info, "twintier::supervisor")
        );
        assert_eq!((filter.most().as_str(), filter.to_string().as_str()), ("DEBUG", "warn,database=debug,front=off"));
        assert_eq!(place("glommio::executor"), "glommio");
    }

    #[test]
    fn libraries_tell_what_goes_wrong_unless_they_are_asked() {
        let filter = Filter::default();
        assert!(filter.takes(Level::Warn, "glommio::executor") && !filter.takes(Level::Info, "glommio::executor"));
        let filter: Filter = "info,glommio=trace".parse().unwrap();
        assert!(filter.takes(Level::Trace, "glommio::executor"));
    }

    #[test]
    fn what_is_no_level_is_refused() {
        for wrong in ["", "loud", "info,database", "info,=debug", "info,database=Debug"] {
            assert!(wrong.parse::<Filter>().is_err(), "{wrong}");
        }
    }
}
