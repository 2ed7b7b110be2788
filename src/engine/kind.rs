//! The engines by name: what the profile and `--engine` may say, and what runs.

use std::fmt;
use std::io;
use std::str::FromStr;

use super::{Engine, Uring};

/// An engine of this build. Every program of one thread and every worker turns one into a type with a `match`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineKind {
    /// Raw io_uring: the data plane.
    Uring,
    /// monoio on io_uring.
    Monoio,
    /// monoio on epoll: works where io_uring is blocked.
    MonoioEpoll,
    /// glommio, for comparison.
    Glommio,
}

impl EngineKind {
    /// Every engine that a user may name.
    pub const ALL: [Self; 4] = [Self::Uring, Self::Monoio, Self::MonoioEpoll, Self::Glommio];

    /// The name that users write and that the `ready` line shows.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uring => Uring::NAME,
            Self::Monoio => "monoio",
            Self::MonoioEpoll => "monoio-epoll",
            Self::Glommio => "glommio",
        }
    }

    /// What a program says that cannot run on this engine yet.
    pub fn unavailable(self) -> io::Error {
        let message = format!("the engine `{}` is not part of this build; write auto or uring", self.name());
        io::Error::new(io::ErrorKind::Unsupported, message)
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// What a user asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineChoice {
    /// The best engine that works on this machine: see [`probe`](super::probe).
    #[default]
    Auto,
    /// This one or none.
    Only(EngineKind),
}

impl FromStr for EngineChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        EngineKind::ALL
            .into_iter()
            .find(|kind| kind.name() == text)
            .map(Self::Only)
            .ok_or_else(|| format!("`{text}` is no engine: write {}", names()))
    }
}

impl fmt::Display for EngineChoice {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => out.write_str("auto"),
            Self::Only(kind) => kind.fmt(out),
        }
    }
}

/// Everything that a user may write, for messages.
fn names() -> String {
    let kinds: Vec<&str> = EngineKind::ALL.into_iter().map(EngineKind::name).collect();
    format!("auto, {}", kinds.join(", "))
}

#[cfg(test)]
mod tests {
    use super::{EngineChoice, EngineKind};

    #[test]
    fn choices_are_written_as_they_are_read() {
        for text in ["auto", "uring", "monoio", "monoio-epoll", "glommio"] {
            assert_eq!(text.parse::<EngineChoice>().unwrap().to_string(), text);
        }
        assert_eq!("monoio-epoll".parse(), Ok(EngineChoice::Only(EngineKind::MonoioEpoll)));
    }

    #[test]
    fn a_wrong_name_is_told_the_right_ones() {
        let wrong = "epoll".parse::<EngineChoice>().unwrap_err();
        assert_eq!(wrong, "`epoll` is no engine: write auto, uring, monoio, monoio-epoll, glommio");
    }
}
