//! Paths of an application: which view, form or action a path below the mount means.

use std::fmt;

use toml::Spanned;

use crate::error::Fault;

use super::pattern::Pattern;
use super::source::Source;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    Literal(Box<str>),
    /// The name that this table gives to the segment's value.
    Parameter(Box<str>),
}

/// The path of a view, form or action, such as `/items/{item}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoutePath {
    segments: Vec<Segment>,
}

impl RoutePath {
    pub(super) fn compile(source: &Source, text: &Spanned<String>, faults: &mut Vec<Fault>) -> Self {
        Self::parse(text.get_ref()).unwrap_or_else(|(wrong, cure)| {
            faults.push(source.fault(&text.span(), wrong, cure));
            Self::default()
        })
    }

    fn parse(text: &str) -> Result<Self, (String, &'static str)> {
        let Some(below) = text.strip_prefix('/') else {
            return Err((
                format!("the path `{text}` does not begin with `/`"),
                "write it as it follows the mount, as in /items/{item}",
            ));
        };
        let mut path = Self::default();
        if below.is_empty() {
            return Ok(path);
        }
        for segment in below.split('/') {
            let name = segment.strip_prefix('{').and_then(|segment| segment.strip_suffix('}'));
            match name {
                Some(name) if super::source::is_identifier(name) => {
                    if path.parameters().any(|known| known == name) {
                        return Err((
                            format!("the path has `{{{name}}}` twice"),
                            "give each parameter a name of its own",
                        ));
                    }
                    path.segments.push(Segment::Parameter(name.into()));
                }
                Some(name) => {
                    return Err((
                        format!("`{name}` is no name for a parameter"),
                        "use lower-case letters, digits and _",
                    ));
                }
                None if segment.is_empty() || segment.contains(['{', '}', '?', '#', '%']) => {
                    return Err((
                        format!("`{segment}` is no path segment"),
                        "a segment is plain text or one whole {parameter}; no empty segment, ?, # or %",
                    ));
                }
                None => path.segments.push(Segment::Literal(segment.into())),
            }
        }
        Ok(path)
    }

    /// Names of the parameters in order.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Parameter(name) => Some(&**name),
            Segment::Literal(_) => None,
        })
    }

    /// The path with percent-encoded values in place of parameters; `None` where one has no value.
    pub fn fill<'a>(&self, mut value: impl FnMut(&str) -> Option<&'a str>) -> Option<String> {
        let mut path = String::new();
        for segment in &self.segments {
            path.push('/');
            match segment {
                Segment::Literal(text) => path.push_str(text),
                Segment::Parameter(name) => super::template::percent_encode(value(name)?, &mut path),
            }
        }
        if path.is_empty() {
            path.push('/');
        }
        Some(path)
    }

    /// Whether both match exactly the same paths.
    fn same_shape(&self, other: &Self) -> bool {
        self.segments.len() == other.segments.len()
            && self.segments.iter().zip(&other.segments).all(|pair| match pair {
                (Segment::Parameter(_), Segment::Parameter(_)) => true,
                (Segment::Literal(left), Segment::Literal(right)) => left == right,
                (Segment::Literal(_), Segment::Parameter(_)) | (Segment::Parameter(_), Segment::Literal(_)) => false,
            })
    }
}

/// The path as the code table writes it.
impl fmt::Display for RoutePath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.segments.is_empty() {
            return out.write_str("/");
        }
        self.segments.iter().try_for_each(|segment| match segment {
            Segment::Literal(text) => write!(out, "/{text}"),
            Segment::Parameter(name) => write!(out, "/{{{name}}}"),
        })
    }
}

/// What a `GET` of a path shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    View(usize),
    Form(usize),
}

/// What a path means for each method.
#[derive(Clone, Debug)]
pub struct Route {
    path: RoutePath,
    /// Numbers in [`super::Application::views`] or [`super::Application::forms`].
    pub get: Option<Page>,
    /// Number in [`super::Application::actions`].
    pub post: Option<usize>,
}

/// A path that was found, with the values of its parameters in order.
#[derive(Debug)]
pub struct Found<'r, 'p> {
    pub route: &'r Route,
    /// Parts of the path that was looked up.
    pub values: Vec<&'p str>,
}

/// All paths of an application; a literal segment wins over a parameter, from left to right.
#[derive(Clone, Debug, Default)]
pub struct Router {
    /// By number of segments.
    routes: Vec<Vec<Route>>,
}

impl Router {
    /// The route of this shape, made if missing.
    pub(super) fn route_mut(&mut self, path: &RoutePath) -> &mut Route {
        let count = path.segments.len();
        if self.routes.len() <= count {
            self.routes.resize_with(count + 1, Vec::new);
        }
        let routes = &mut self.routes[count];
        let index = routes.iter().position(|route| route.path.same_shape(path)).unwrap_or_else(|| {
            routes.push(Route { path: path.clone(), get: None, post: None });
            routes.len() - 1
        });
        &mut routes[index]
    }

    /// Puts literal segments before parameters, so that the first match is the right one.
    pub(super) fn sort(&mut self) {
        for routes in &mut self.routes {
            routes.sort_by_key(|route| {
                let rank = |segment: &Segment| match segment {
                    Segment::Literal(text) => (0, text.to_string()),
                    Segment::Parameter(_) => (1, String::new()),
                };
                route.path.segments.iter().map(rank).collect::<Vec<_>>()
            });
        }
    }

    /// Whether some page may be meant by a location: a name in it may stand for any text.
    pub(super) fn may_show(&self, location: &Pattern) -> bool {
        const ANY: char = '\u{0}';
        let text = location.fill(|_| Some(ANY.to_string().into())).unwrap_or_default();
        let Some(below) = text.split(['?', '#']).next().and_then(|path| path.strip_prefix('/')) else { return false };
        let segments: Vec<&str> = if below.is_empty() { Vec::new() } else { below.split('/').collect() };
        self.routes.get(segments.len()).into_iter().flatten().filter(|route| route.get.is_some()).any(|route| {
            route.path.segments.iter().zip(&segments).all(|(segment, text)| match segment {
                Segment::Literal(literal) => **literal == **text || text.contains(ANY),
                Segment::Parameter(_) => !text.is_empty(),
            })
        })
    }

    /// The route of a decoded path below the mount.
    pub fn find<'p>(&self, path: &'p str) -> Option<Found<'_, 'p>> {
        let below = path.strip_prefix('/')?;
        let count = if below.is_empty() { 0 } else { 1 + below.bytes().filter(|byte| *byte == b'/').count() };
        let routes = self.routes.get(count)?;
        'routes: for route in routes {
            let mut at = 1;
            let mut values = Vec::new();
            for segment in &route.path.segments {
                let end = path[at..].bytes().position(|byte| byte == b'/').map_or(path.len(), |end| end + at);
                match segment {
                    Segment::Literal(text) if **text == path[at..end] => {}
                    Segment::Parameter(_) if end > at => values.push(&path[at..end]),
                    Segment::Literal(_) | Segment::Parameter(_) => continue 'routes,
                }
                at = end + 1;
            }
            return Some(Found { route, values });
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{Page, RoutePath, Router};

    #[test]
    fn literal_wins_over_parameter() {
        let mut router = Router::default();
        for (number, path) in ["/", "/items/{item}", "/items/new", "/{a}/new", "/items"].iter().enumerate() {
            let path = RoutePath::parse(path).expect("path");
            router.route_mut(&path).get = Some(Page::View(number));
        }
        router.sort();
        for (path, number, values) in [
            ("/", 0, vec![]),
            ("/items/libc6", 1, vec!["libc6"]),
            ("/items/new", 2, vec![]),
            ("/x/new", 3, vec!["x"]),
            ("/items", 4, vec![]),
        ] {
            let found = router.find(path).expect(path);
            assert_eq!((found.route.get, found.values), (Some(Page::View(number)), values), "{path}");
        }
        for path in ["", "/x", "/items/", "//", "/items/a/b", "items", "/x/y/z/w/v"] {
            assert!(router.find(path).is_none(), "{path}");
        }
    }

    #[test]
    fn wrong_paths() {
        for path in ["", "items", "/a//b", "/a/", "/{A}", "/{}", "/a{b}", "/{a}/{a}", "/a?b", "/a%20"] {
            assert!(RoutePath::parse(path).is_err(), "{path}");
        }
    }

    #[test]
    fn fills_with_percent_encoding() {
        let path = RoutePath::parse("/items/{item}").expect("path");
        assert_eq!(path.fill(|_| Some("libstdc++ 6/x")).as_deref(), Some("/items/libstdc%2B%2B%206%2Fx"));
        assert_eq!(path.fill(|_| None), None);
    }
}
