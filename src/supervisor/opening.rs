//! The database, opened with the code that is to run, and read whole.

use std::sync::Arc;

use crossbeam::channel;

use super::Failure;
use super::deploys::{base_digest, resume_deploys};
use super::log_lines::since_ms;
use super::store::StoreSettings;
use crate::clock;
use crate::database::contract::Loaded;
use crate::database::duckdb::DuckStore;
use crate::database::postgres::PostgresStore;
use crate::database::{self, seed::SeedUser};
use crate::profile::Profile;
use crate::tables::ServerId;
use crate::tables::code::CodeVersion;

/// The open database with what it holds, and the code that runs on it.
pub(super) struct Opening {
    pub(super) database: database::server::Handle,
    pub(super) opened: database::server::Opened,
    pub(super) code: Arc<CodeVersion>,
    pub(super) loaded: Vec<Loaded>,
}

impl Opening {
    /// Opens it, brings it to the code's shapes, reads it whole.
    pub(super) fn open(
        profile: &Profile,
        store: StoreSettings,
        code: CodeVersion,
        application_server: ServerId,
        publisher: database::contract::Publisher,
    ) -> Result<Self, Failure> {
        let (path, begun_ns) = (store.place(), clock::monotonic_ns());
        let (database, opened, code) = open_database(profile, store, code, application_server, publisher)?;
        let loaded = load_rows(&database, &code)?;
        log::info!(
            kind = profile.database.kind.name(), path = path.as_str(), rows = opened.rows,
            users_seeded = opened.users_seeded, deploys = opened.deployed.len(), code_version = code.version,
            code_digest:% = format_args!("{:032x}", code.digest), elapsed_ms = since_ms(begun_ns);
            "the database is open"
        );
        Ok(Self { database, opened, code: Arc::new(code), loaded })
    }
}

/// Opens the database with the shapes of the code that is to run, and gives that code back.
fn open_database(
    profile: &Profile,
    store: StoreSettings,
    code: CodeVersion,
    application_server: ServerId,
    publisher: database::contract::Publisher,
) -> Result<(database::server::Handle, database::server::Opened, CodeVersion), Failure> {
    let place = |key: &str, wrong: String| Failure::from(profile.fault("database", key, wrong, ""));
    if let StoreSettings::Duck(duck) = &store
        && let Some(folder) = duck.path.parent().filter(|folder| !folder.as_os_str().is_empty())
    {
        std::fs::create_dir_all(folder)
            .map_err(|error| Failure::usage(format!("{}: {error}; choose another database.path", folder.display())))?;
    }
    let users = profile.users.iter().map(|user| SeedUser {
        user: user.user.clone(),
        full_name: user.name.clone(),
        department: user.department.clone(),
        email: user.email.clone(),
        roles: user.roles.clone(),
        password: user.password.clone(),
    });
    let settings = database::server::Settings {
        server: application_server,
        users: users.collect(),
        code_digests: code
            .applications
            .iter()
            .map(|application| (Box::from(&*application.name), base_digest(&code, &application.name)))
            .collect(),
    };
    // The database's thread opens it, and only then it is known what was deployed.
    let (resumed_sender, resumed) = channel::bounded(1);
    let is_shared = store.shared().is_some();
    let shapes_of = move |deployed: &[database::contract::Deployed]| {
        let code = resume_deploys(code, deployed, is_shared).map_err(|failure| failure.message)?;
        let shapes = Arc::clone(&code.shapes);
        // The channel has room for the one message that it is made for.
        let _ = resumed_sender.try_send(code);
        Ok(shapes)
    };
    let limits = database::server::Limits::default();
    let (database, opened) = match store {
        StoreSettings::Duck(store) => {
            let open = move || DuckStore::open_with(&store, shapes_of);
            database::server::spawn(settings, open, limits, publisher).map_err(Failure::usage)?
        }
        StoreSettings::Postgres(store) => {
            let open = move || PostgresStore::open_with(&store, shapes_of);
            database::server::spawn(settings, open, limits, publisher).map_err(|wrong| place("url", wrong))?
        }
    };
    let code = resumed.try_recv().map_err(|_| Failure::failed("the database was opened without its code"))?;
    Ok((database, opened, code))
}

fn load_rows(database: &database::server::Handle, code: &CodeVersion) -> Result<Vec<Loaded>, Failure> {
    let ids = (0..code.shapes.shapes.len()).filter_map(|index| u16::try_from(index).ok());
    ids.map(|id| database.client().load(crate::tables::TableId(id)).map_err(Failure::failed)).collect()
}
