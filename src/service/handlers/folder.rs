//! The zip of a folder of a repository: a view of the repository's zip.
//!
//! Flat for v3 clients and below `/flat/`; elsewhere in one top folder, `{alias}-{version}`.

use http::{Response, header, request::Parts};

use super::view;
use crate::{
    archive::{
        FolderFacts,
        view::{TopFolder, ViewSpec},
    },
    dialect::{Dialect, ZipForm},
    http::{body::Body, field::content_disposition},
    package::{FolderPackage, Version},
    registry::Unbuilt,
    service::{Service, context::RequestContext, error::ApiError, zip_response},
};

/// Responds with the part of the repository's zip that is in the folder. Waits until that zip is complete; in the simple
/// dialect at most `packages.unbuilt_wait`.
///
/// # Errors
/// When the registry has no such version; 404 when the version lacks the folder; 422 in the dialects of the command line
/// clients when the folder is a component or plugin without its entry; 503 when there is no room on disk and the zip is too
/// large for memory.
pub(in crate::service) async fn respond(
    service: &Service,
    parts: &Parts,
    context: &mut RequestContext,
    folder: &FolderPackage,
    version: &Version,
    form: ZipForm,
) -> Result<Response<Body>, ApiError> {
    let folders = service.registry.folders();
    let refuses_unbuilt = context.dialect.is_of_command_line() && service.registry.unbuilt() == Unbuilt::Refuse;
    if refuses_unbuilt && let Some(facts) = folders.pinned_facts(folder, version).await? {
        ensure_built(&facts)?;
    }
    let mut may_retry = true;
    loop {
        let is_slow = refuses_unbuilt || service.registry.may_enforce_model();
        let is_limited = context.dialect == Dialect::Simple && is_slow;
        let max_wait = is_limited.then_some(service.registry.unbuilt_wait());
        let archive = view::wait_at_most(max_wait, folders.archive(folder, version)).await??;
        context.cache_status = Some(archive.status.clone());
        if refuses_unbuilt {
            ensure_built(&archive.facts)?;
        }
        let alias = folder.alias.base_name();
        let top = (form == ZipForm::Foldered).then(|| TopFolder::of_version(alias, &archive.version));
        let spec = ViewSpec::Folder { path: folder.path.clone(), top };
        let Some(mut response) = view::view_response(service, parts, context, archive.object, spec, None).await? else {
            if !may_retry {
                return Err(ApiError::DamagedZip);
            }
            may_retry = false;
            continue;
        };
        zip_response::add_headers(&mut response, &archive.resolved, archive.age, &folder.alias);
        // The file is named after the version of the folder, not after the tag of the repository.
        let headers = response.headers_mut();
        if headers.contains_key(header::CONTENT_DISPOSITION) {
            let file_name = format!("{alias}-{}.zip", archive.version.replace('/', "-"));
            headers.insert(header::CONTENT_DISPOSITION, content_disposition(&file_name));
        }
        return Ok(response);
    }
}

/// Refuses a component or plugin whose entry is not in the folder.
fn ensure_built(facts: &FolderFacts) -> Result<(), ApiError> {
    match &facts.missing_entry {
        Some(missing) => Err(ApiError::Unbuilt { missing: missing.clone() }),
        None => Ok(()),
    }
}
