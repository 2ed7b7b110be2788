//! What was deployed, and the profile's own code: which of them runs.

use super::Failure;
use crate::database::contract::Deployed;
use crate::tables::code::CodeVersion;

/// Names the sources of one application, so that an edited profile is told from a deployed one.
pub(super) fn base_digest(code: &CodeVersion, application: &str) -> Box<str> {
    let mut hasher = blake3::Hasher::new();
    for source in code.sources.iter().filter(|source| &*source.application == application) {
        for part in [&source.path, &source.text] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
    }
    hasher.finalize().to_hex().as_str().into()
}

/// The code to run: what was deployed, unless the profile's own code was edited since.
/// Where several appliances may share the database, what was deployed runs on all of them, whatever their profiles say.
pub(super) fn resume_deploys(
    mut code: CodeVersion,
    deployed: &[Deployed],
    is_shared: bool,
) -> Result<CodeVersion, Failure> {
    let mut order: Vec<_> = deployed.iter().collect();
    order.sort_by_key(|deployed| deployed.version);
    for deploy in order {
        let edited = base_digest(&code, &deploy.application) != deploy.base_digest;
        if edited && is_shared {
            log::warn!(
                application = &*deploy.application, version = deploy.version;
                "the profile's code is not that on which the last deploy was made; the deployed code runs, as on every appliance; deploy to change it"
            );
        } else if edited {
            log::warn!(
                application = &*deploy.application, version = deploy.version;
                "the profile's code was edited after its last deploy, and runs instead of it"
            );
            continue;
        }
        code = code.deploy(&deploy.application, &deploy.sources, deploy.version).map_err(|faults| {
            let text = faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
            Failure::usage(format!("the code deployed as version {} no longer fits:\n{text}", deploy.version))
        })?;
    }
    Ok(code)
}
