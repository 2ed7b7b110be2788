//! From the texts of code tables to a [`CodeVersion`]: folders at start, texts in a deploy, one compile function.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;

use crate::error::Fault;
use crate::tables::record::{DocumentShape, ShapeSet};

use super::folder::{Package, packages, read_folder};
use super::names::Names;
use super::router::{Page, Router};
use super::source::{Source, is_identifier};
use super::view::path_taken;
use super::{
    Application, CodeKind, CodeSource, CodeTable, CodeVersion, Templates, action, agent, authority, document, form,
    system_shapes, template, view,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawApplication {
    name: Spanned<String>,
    title: String,
    sign_in: Spanned<String>,
}

/// Paths below a code folder, and what is in the files.
pub type Texts = Vec<(String, String)>;

impl CodeVersion {
    /// Loads application code folders, such as `profiles/reqcat/code`.
    ///
    /// # Errors
    /// Every mistake in every file, by file and line.
    pub fn load(folders: &[PathBuf], version: u64) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        let packages = folders.iter().map(|folder| read_folder(folder, &mut faults)).collect();
        compile(packages, version, None, faults)
    }

    /// Compiles texts: `(application, path below its code folder, text)`.
    ///
    /// # Errors
    /// Every mistake in every text, by `application/path` and line.
    pub fn from_sources(sources: &[CodeSource], version: u64) -> Result<Self, Vec<Fault>> {
        compile(packages(sources), version, None, Vec::new())
    }

    /// The version in which `application` is replaced by (or begins with) these texts, `(path, text)`, and all other
    /// applications stay. Data tables keep their numbers, new ones come after them.
    ///
    /// # Errors
    /// Every mistake in the texts, and what [`CodeVersion::compatible_with`] finds.
    pub fn deploy(&self, application: &str, texts: &[(String, String)], version: u64) -> Result<Self, Vec<Fault>> {
        let mut sources: Vec<CodeSource> = self.sources.clone();
        sources.retain(|source| &*source.application != application);
        sources.extend(texts.iter().map(|(path, text)| CodeSource {
            application: application.into(),
            path: path.as_str().into(),
            text: text.as_str().into(),
        }));
        let code = compile(packages(&sources), version, Some(&self.shapes), Vec::new())?;
        let faults = code.compatible_with(self);
        if faults.is_empty() { Ok(code) } else { Err(faults) }
    }

    /// Reads the texts of a code folder for a deploy: the application's name, and `(path, text)` of each file.
    ///
    /// # Errors
    /// Files that cannot be read, and an `application.toml` that is missing or names no application.
    pub fn read_texts(folder: &Path) -> Result<(String, Texts), Vec<Fault>> {
        let mut faults = Vec::new();
        let package = read_folder(folder, &mut faults);
        let name = package.sources.iter().find(|source| &*source.path == "application.toml").map_or_else(
            || Err(no_application(folder)),
            |source| source.parse::<RawApplication>().map(|raw| raw.name.into_inner()),
        );
        let texts = package.sources.iter().map(|source| (source.path.to_string(), source.text.to_string())).collect();
        match name {
            Ok(name) if faults.is_empty() => Ok((name, texts)),
            Ok(_) => Err(faults),
            Err(fault) => {
                faults.push(fault);
                Err(faults)
            }
        }
    }
}

/// The kind and name of a code table by its path.
fn classify(path: &str) -> Option<(CodeKind, &str)> {
    let kind = match path.split_once('/') {
        None if path == "application.toml" => CodeKind::Application,
        None if path == "authority.toml" => CodeKind::Authority,
        Some(("templates", name)) if name.ends_with(".html") => return Some((CodeKind::Template, path)),
        Some((folder, name)) if !name.contains('/') && name.ends_with(".toml") => match folder {
            "documents" => CodeKind::Document,
            "views" => CodeKind::View,
            "forms" => CodeKind::Form,
            "actions" => CodeKind::Action,
            "agents" => CodeKind::Agent,
            _ => return None,
        },
        None | Some(_) => return None,
    };
    Some((kind, path.strip_suffix(".toml")?))
}

fn no_application(folder: &Path) -> Fault {
    let file = folder.join("application.toml");
    Fault::new(&file, 1, 1, "the file is missing", "write name, title and sign_in of the application into it")
}

/// A package whose files are known by kind.
struct Sorted {
    name: Arc<str>,
    raw: RawApplication,
    package: Package,
}

impl Sorted {
    fn of(&self, kind: CodeKind) -> impl Iterator<Item = &Source> {
        self.package.sources.iter().filter(move |source| classify(&source.path).is_some_and(|(known, _)| known == kind))
    }
}

fn compile(
    packages: Vec<Package>,
    version: u64,
    previous: Option<&ShapeSet>,
    mut faults: Vec<Fault>,
) -> Result<CodeVersion, Vec<Fault>> {
    let mut applications: Vec<Sorted> = Vec::new();
    for package in packages {
        for source in &package.sources {
            if classify(&source.path).is_none() {
                let cure = "code tables are application.toml, authority.toml, {documents,views,forms,actions,agents}/NAME.toml and templates/NAME.html";
                faults.push(source.whole("this is no code table", cure));
            }
        }
        let Some(source) = package.sources.iter().find(|source| &*source.path == "application.toml") else {
            faults.push(no_application(&package.folder));
            continue;
        };
        match source.parse::<RawApplication>() {
            Ok(raw) => {
                check_application(source, &raw, &package, &applications, &mut faults);
                applications.push(Sorted { name: raw.name.get_ref().as_str().into(), raw, package });
            }
            Err(fault) => faults.push(fault),
        }
    }
    applications.sort_by(|left, right| left.name.cmp(&right.name));
    let mut broken = BTreeSet::new();
    let shapes = Arc::new(shapes(&applications, previous, &mut broken, &mut faults));
    let roles = roles(&applications).unwrap_or_default();
    let known = Known { shapes: &shapes, broken: &broken, roles: &roles };
    let compiled = applications.iter().map(|sorted| application(sorted, &known, &mut faults)).collect();
    if !faults.is_empty() {
        faults
            .sort_by(|left, right| (&left.file, left.line, left.column).cmp(&(&right.file, right.line, right.column)));
        faults.dedup();
        return Err(faults);
    }
    let mut sources: Vec<CodeSource> = Vec::new();
    for sorted in &applications {
        sources.extend(sorted.package.sources.iter().map(|source| CodeSource {
            application: sorted.name.clone(),
            path: source.path.clone(),
            text: source.text.clone(),
        }));
    }
    sources.sort();
    let mut hasher = blake3::Hasher::new();
    for source in &sources {
        hasher.update(&digest(&[&source.application, &source.path, &source.text]).to_be_bytes());
    }
    let digest = first_half(&hasher.finalize());
    Ok(CodeVersion { version, applications: compiled, shapes, sources, digest })
}

fn check_application(
    source: &Source,
    raw: &RawApplication,
    package: &Package,
    known: &[Sorted],
    faults: &mut Vec<Fault>,
) {
    let name = raw.name.get_ref();
    let at = raw.name.span();
    if !is_identifier(name) || name == "system" {
        let cure = "use lower-case letters, digits and _, a letter first; not `system`";
        faults.push(source.fault(&at, format!("`{name}` is no name for an application"), cure));
    }
    if let Some(expected) = &package.name
        && expected != name
    {
        let wrong = format!("the application calls itself `{name}`");
        faults.push(source.fault(&at, wrong, format!("it is deployed as `{expected}`: write that name")));
    }
    if let Some(other) = known.iter().find(|other| *other.name == **name) {
        let wrong = format!("the application `{name}` is there twice, also in {}", other.package.folder.display());
        faults.push(source.fault(&at, wrong, "give each application a name of its own"));
    }
    let sign_in = raw.sign_in.get_ref();
    if !sign_in.starts_with('/') || sign_in.starts_with("//") {
        let wrong = format!("`{sign_in}` is no path of a page");
        faults.push(source.fault(&raw.sign_in.span(), wrong, "write it with the mount, as in /directory/sign-in"));
    }
}

/// The previous shapes first, in their order; then new tables by application and name.
fn shapes(
    applications: &[Sorted],
    previous: Option<&ShapeSet>,
    broken: &mut BTreeSet<String>,
    faults: &mut Vec<Fault>,
) -> ShapeSet {
    let mut set = system_shapes();
    let mut found: Vec<Arc<DocumentShape>> = Vec::new();
    for sorted in applications {
        let mut sources: Vec<&Source> = sorted.of(CodeKind::Document).collect();
        sources.sort_by(|left, right| left.path.cmp(&right.path));
        for source in sources {
            let Some(shape) = document::compile(&sorted.name, source, faults) else {
                broken.insert(source.stem().to_owned());
                continue;
            };
            if found.iter().any(|other| shape.table == other.table) {
                let wrong = format!("another application has a data table `{}` too", shape.table);
                faults.push(source.whole(wrong, "give one of the files another name"));
            } else if set.id(&shape.table).is_none() {
                found.push(Arc::new(shape));
            }
        }
    }
    let system = set.shapes.len();
    for shape in previous.iter().flat_map(|previous| previous.shapes.iter().skip(system)) {
        match found.iter().position(|new| new.table == shape.table) {
            Some(now) => set.shapes.push(found.remove(now)),
            None if broken.contains(&*shape.table) => {}
            None => faults.push(super::table_gone(shape)),
        }
    }
    set.shapes.extend(found);
    set
}

/// Roles that the authority tables name, and those that everyone has; `None` if a table is missing or broken, and not
/// to know its roles is no further mistake.
fn roles(applications: &[Sorted]) -> Option<BTreeSet<String>> {
    let mut roles = BTreeSet::from(["anonymous", "member"].map(str::to_owned));
    for sorted in applications {
        roles.extend(authority::roles(sorted.of(CodeKind::Authority).next()?)?);
    }
    Some(roles)
}

/// What the applications know of each other.
struct Known<'a> {
    shapes: &'a ShapeSet,
    /// Data tables whose documents are wrong.
    broken: &'a BTreeSet<String>,
    roles: &'a BTreeSet<String>,
}

fn application(sorted: &Sorted, known: &Known<'_>, faults: &mut Vec<Fault>) -> Application {
    let templates: BTreeMap<String, Source> = sorted
        .of(CodeKind::Template)
        .map(|source| (source.path.trim_start_matches("templates/").to_owned(), source.clone()))
        .collect();
    let by_name = |kind: CodeKind| {
        let sources: BTreeMap<&str, &Source> = sorted.of(kind).map(|source| (source.stem(), source)).collect();
        sources
    };
    let (views, forms) = (by_name(CodeKind::View), by_name(CodeKind::Form));
    let (actions, agents) = (by_name(CodeKind::Action), by_name(CodeKind::Agent));
    let names = Names {
        shapes: known.shapes,
        broken: known.broken,
        roles: known.roles,
        templates: &templates,
        forms: forms.keys().copied().collect(),
        actions: actions.keys().copied().collect(),
        agents: agents.keys().copied().collect(),
    };
    let related: Vec<String> = views.values().flat_map(|source| view::related_names(source)).collect();
    let related: HashSet<&str> = related.iter().map(String::as_str).collect();
    let environment = template::compile(&templates, &related, known.roles, faults);
    let before = faults.len();
    let compiled_views: Vec<_> = views.values().filter_map(|source| view::compile(source, &names, faults)).collect();
    let compiled_forms: Vec<_> = forms.values().filter_map(|source| form::compile(source, &names, faults)).collect();
    let compiled_actions: Vec<_> =
        actions.values().filter_map(|source| action::compile(source, &names, faults)).collect();
    let compiled_agents = agents.values().filter_map(|source| agent::compile(source, &names, faults)).collect();
    // Numbers of forms and actions mean something only if none of them is missing.
    let complete = faults.len() == before
        && (compiled_views.len(), compiled_forms.len(), compiled_actions.len())
            == (views.len(), forms.len(), actions.len());
    let mut application = Application {
        name: sorted.name.clone(),
        title: sorted.raw.title.as_str().into(),
        sign_in: sorted.raw.sign_in.get_ref().as_str().into(),
        authority: compile_authority(sorted, faults),
        views: compiled_views,
        forms: compiled_forms,
        actions: compiled_actions,
        agents: compiled_agents,
        templates: Templates(Arc::new(environment)),
        router: Router::default(),
        code_tables: code_tables(sorted),
    };
    if complete {
        application.router = router(sorted, &application, faults);
    }
    application
}

/// The paths of an application whose pages and actions are all there.
fn router(sorted: &Sorted, application: &Application, faults: &mut Vec<Fault>) -> Router {
    let source = |name: &str| {
        let path = format!("{name}.toml");
        sorted.package.sources.iter().find(|source| *source.path == *path)
    };
    let pages = application.views.iter().map(|view| (&view.path, &*view.name));
    let pages = pages.enumerate().map(|(index, (path, name))| (path, name, Page::View(index)));
    let forms = application.forms.iter().map(|form| (&form.path, &*form.name));
    let pages = pages.chain(forms.enumerate().map(|(index, (path, name))| (path, name, Page::Form(index))));
    let mut router = Router::default();
    let name_of = |page: Page| match page {
        Page::View(index) => application.views[index].name.to_string(),
        Page::Form(index) => application.forms[index].name.to_string(),
    };
    for (path, name, page) in pages {
        let route = router.route_mut(path);
        match (route.get, source(name)) {
            (Some(other), Some(source)) => {
                faults.push(path_taken(source, &path_place(source), &path.to_string(), &name_of(other)));
            }
            (None, _) | (Some(_), None) => route.get = Some(page),
        }
    }
    for (index, action) in application.actions.iter().enumerate() {
        let route = router.route_mut(&action.path);
        match (route.post, source(&action.name)) {
            (Some(other), Some(source)) => {
                let other = &application.actions[other].name;
                faults.push(path_taken(source, &path_place(source), &action.path.to_string(), other));
            }
            (None, _) | (Some(_), None) => route.post = Some(index),
        }
    }
    router.sort();
    check_form_paths(application, &source, faults);
    check_locations(application, &router, &source, faults);
    router
}

/// An action's location must be a page: a browser is sent there.
fn check_locations<'s>(
    application: &Application,
    router: &Router,
    source: &impl Fn(&str) -> Option<&'s Source>,
    faults: &mut Vec<Fault>,
) {
    #[derive(Deserialize)]
    struct Part {
        location: Option<Spanned<String>>,
    }
    for action in &application.actions {
        let Some(source) = source(&action.name).filter(|_| !router.may_show(&action.location)) else { continue };
        let part = toml::from_str::<Part>(&source.text).ok();
        let location = part.and_then(|part| part.location);
        let at = location.as_ref().map_or_else(|| path_place(source), Spanned::span);
        let shown = location.as_ref().map_or("/", |location| location.get_ref());
        let wrong = format!("no view or form has the path of the location `{shown}`");
        let pages = application.views.iter().map(|view| view.path.to_string());
        let pages: Vec<String> = pages.chain(application.forms.iter().map(|form| form.path.to_string())).collect();
        let cure = super::source::choose(shown, pages.iter().map(String::as_str));
        faults.push(source.fault(&at, wrong, cure));
    }
}

/// A form shows where to post, and an action shows its form again: each must know the other's path parameters.
fn check_form_paths<'s>(
    application: &Application,
    source: &impl Fn(&str) -> Option<&'s Source>,
    faults: &mut Vec<Fault>,
) {
    for form in &application.forms {
        let action = &application.actions[form.action];
        for parameter in action.path.parameters() {
            if !form.path.parameters().any(|known| known == parameter)
                && let Some(source) = source(&form.name)
            {
                let wrong = format!("the path of {} has `{{{parameter}}}`, the form's path has not", action.name);
                faults.push(source.fault(&path_place(source), wrong, "put the parameter into the form's path too"));
            }
        }
    }
    for action in &application.actions {
        let Some(form) = action.form.map(|form| &application.forms[form]) else { continue };
        for parameter in form.path.parameters() {
            let known = action.path.parameters().any(|known| known == parameter)
                || action.inputs.iter().any(|input| &*input.name == parameter);
            if !known && let Some(source) = source(&action.name) {
                let wrong = format!("{} needs `{{{parameter}}}` to be shown again", form.name);
                faults.push(source.fault(
                    &path_place(source),
                    wrong,
                    "put it into the action's path or add an input with that name",
                ));
            }
        }
    }
}

/// Where a code table says its path.
fn path_place(source: &Source) -> std::ops::Range<usize> {
    #[derive(Deserialize)]
    struct Part {
        path: Spanned<String>,
    }
    toml::from_str::<Part>(&source.text).map_or(0..0, |part| part.path.span())
}

fn compile_authority(sorted: &Sorted, faults: &mut Vec<Fault>) -> crate::authority::table::AuthorityTable {
    let names: Vec<String> = sorted
        .package
        .sources
        .iter()
        .filter_map(|source| classify(&source.path))
        .filter(|(kind, _)| matches!(kind, CodeKind::View | CodeKind::Form | CodeKind::Action | CodeKind::Agent))
        .map(|(_, name)| name.to_owned())
        .collect();
    match sorted.of(CodeKind::Authority).next() {
        Some(source) => authority::compile(source, &names, faults),
        None => {
            let file = sorted.package.folder.join("authority.toml");
            let cure = "write [[allow]] with role, code and verbs: without it nobody may do anything";
            faults.push(Fault::new(&file, 1, 1, "the file is missing", cure));
            crate::authority::table::AuthorityTable::default()
        }
    }
}

fn code_tables(sorted: &Sorted) -> Vec<CodeTable> {
    let mut tables: Vec<CodeTable> = Vec::new();
    for source in &sorted.package.sources {
        if let Some((kind, name)) = classify(&source.path) {
            tables.push(CodeTable {
                name: name.into(),
                kind,
                digest: digest(&[&sorted.name, &source.path, &source.text]),
            });
        }
    }
    tables.sort_by(|left, right| left.name.cmp(&right.name));
    tables
}

fn digest(parts: &[&str]) -> u128 {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    first_half(&hasher.finalize())
}

fn first_half(hash: &blake3::Hash) -> u128 {
    let mut half = [0; 16];
    half.copy_from_slice(&hash.as_bytes()[..16]);
    u128::from_be_bytes(half)
}
