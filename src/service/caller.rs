//! Who sends a request, and whether the caller may have what it asks for: checked by the asked name before anything is looked
//! up, and again by the package that was found.

use http::request::Parts;

use super::{
    Service,
    context::RequestContext,
    error::{ApiError, Unauthorized},
    found_package::FoundPackage,
    sources,
};
use crate::{
    access::{
        self, Access, Caller, Grant, Identification, Identified, PendingCredential, Right, SignedZips,
        VerificationError,
    },
    dialect::{self, ApiRequest, Dialect, DialectName, Ops, Route, WebPage},
    http::cache_status::CacheStatus,
    origin::{FetchError, Missing},
    package::{FolderPackage, PackageId, PackageRef},
    registry::{Audience, CacheFailure, RegistryError},
};

/// Identifies the caller; credentials that are returned must be verified first.
///
/// # Errors
/// `Unauthorized` for credentials that are not valid.
pub(super) fn identify(
    service: &Service,
    parts: &Parts,
    context: &mut RequestContext,
) -> Result<Option<PendingCredential>, ApiError> {
    context.rules_generation = service.registry.rules_generation();
    if context.peer.is_control() {
        context.caller = Caller::Operator;
        return Ok(None);
    }
    let access = &service.access;
    // Before the identification: a token that is revoked from now on changes the generation.
    context.access_generation = access.generation();
    let certificate = context.peer.certificate.as_deref();
    let identified = access.identify(&parts.method, &parts.uri, &parts.headers, certificate);
    match identified.map_err(|error| ApiError::Unauthorized(Unauthorized::Credentials(error)))? {
        Identification::Known(Identified { caller, by_address }) => {
            context.caller = caller;
            context.by_address = by_address;
            Ok(None)
        }
        Identification::Pending(pending) => Ok(Some(pending)),
    }
}

/// Identifies the caller by credentials that must be verified with another host. Waits at most 15 s.
///
/// # Errors
/// `Unauthorized` for credentials that are not valid; `Unverifiable`.
pub(super) async fn verify(
    service: &Service,
    pending: PendingCredential,
    context: &mut RequestContext,
) -> Result<(), ApiError> {
    context.caller = service.access.verify(pending).await.map_err(|error| match error {
        VerificationError::Invalid(invalid) => ApiError::Unauthorized(Unauthorized::Credentials(invalid)),
        VerificationError::NoKeys => ApiError::Unverifiable("fetch the keys of the issuer of the token"),
        VerificationError::NoBucket => {
            ApiError::Unverifiable("ask the shared bucket whether this signature was used before")
        }
    })?;
    Ok(())
}

/// Checks whether the caller may read what the name of the request leads to. Looks nothing up: a caller who may not read a
/// name gets the same answer whether the package exists or not.
///
/// # Errors
/// `Unauthorized` for a caller without credentials; for others as for a package that does not exist.
pub(super) fn check_asked(
    service: &Service,
    route: &Route,
    parts: &Parts,
    context: &mut RequestContext,
) -> Result<(), ApiError> {
    let access = &service.access;
    if !access.is_enabled() {
        return Ok(());
    }
    let Some(package) = route.request.package() else {
        let is_closed = matches!(context.caller, Caller::Anonymous) && !access.has_anonymous_rules();
        return match route.request {
            ApiRequest::Catalog(_) | ApiRequest::Menu(_) | ApiRequest::OwnPackages(_) if is_closed => {
                Err(refusal(parts, context))
            }
            // The page of the 401, which shows how to sign in, uses them.
            ApiRequest::Ops(Ops::Web(WebPage::Asset(_))) => Ok(()),
            ApiRequest::Ops(Ops::Web(WebPage::SignIn)) if matches!(context.caller, Caller::Anonymous) => {
                Err(refusal(parts, context))
            }
            ApiRequest::Ops(Ops::Web(_)) if is_closed => Err(refusal(parts, context)),
            _ => Ok(()),
        };
    };
    let asked = sources::asked_packages(&service.registry, &service.names, package, route.dialect.name());
    let grant = match package {
        PackageRef::Folder(folder) => folder_grant(access, &context.caller, folder),
        _ => {
            let grants = asked.iter().map(|package| access.grant(&context.caller, package, Right::Read));
            grants.max().unwrap_or(Grant::Refused)
        }
    };
    if grant != Grant::Refused {
        return Ok(());
    }
    context.refused_by = asked.first().and_then(|package| access.deciding_rule(package));
    Err(refusal(parts, context))
}

/// Checks whether the caller may read the package that was found, also under the name that it has now, and records the grant
/// in `context`.
///
/// # Errors
/// As [`check_asked`]. A private repository counts as one that does not exist, unless a rule names the caller for it.
pub(super) async fn check_found(
    service: &Service,
    found: &FoundPackage,
    parts: &Parts,
    context: &mut RequestContext,
) -> Result<(), ApiError> {
    let access = &service.access;
    let caller = context.caller.clone();
    let mut grant = read_grant(access, &caller, found);
    if access.distinguishes_packages()
        && let Some(present) = service.registry.documents().present_name(found.id()).await?
    {
        grant = grant.min(access.grant(&caller, &present, Right::Read));
    }
    if grant == Grant::Refused {
        context.refused_by = access.deciding_rule(found.id());
        return Err(refusal(parts, context));
    }
    if access.is_enabled() && grant == Grant::Everyone && context.audience == Audience::Clients {
        service.registry.documents().ensure_public(found.id()).await?;
    }
    context.grant = grant;
    Ok(())
}

/// Whether a caller may be shown a package in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListVisibility {
    /// It may be listed.
    Shown,
    /// It may be listed if it is public: everyone may read it, and no rule names the caller.
    ShownIfPublic,
    /// It may not be listed.
    Hidden,
}

/// Decides whether the caller may be shown a package in a list.
pub(super) fn list_visibility(access: &Access, caller: &Caller, subject: &FoundPackage) -> ListVisibility {
    if !access.is_enabled() {
        return ListVisibility::Shown;
    }
    match read_grant(access, caller, subject) {
        Grant::Refused => ListVisibility::Hidden,
        Grant::Everyone => ListVisibility::ShownIfPublic,
        Grant::Named => ListVisibility::Shown,
    }
}

/// Whether a caller may read a package, or a folder and its repository.
fn read_grant(access: &Access, caller: &Caller, subject: &FoundPackage) -> Grant {
    match subject {
        FoundPackage::Package(package) => access.grant(caller, package, Right::Read),
        FoundPackage::Folder(folder) => folder_grant(access, caller, folder),
    }
}

/// What a caller may do with a folder of a repository: the lesser of the grants for the folder and for the repository.
fn folder_grant(access: &Access, caller: &Caller, folder: &FolderPackage) -> Grant {
    let alias = PackageId { upstream: folder.repository.upstream.clone(), name: folder.alias.clone() };
    let of_folder = access.grant(caller, &alias, Right::Read);
    of_folder.min(access.grant(caller, &folder.repository, Right::Read))
}

/// The signature, a query, for the zip addresses in an answer about a package. `tag` is the tag of the one release in the
/// answer; `None` signs the addresses of all versions. Empty for a caller who needs no signature.
pub(super) fn zip_signature(
    service: &Service,
    context: &RequestContext,
    found: &FoundPackage,
    tag: Option<&str>,
    dialect: Dialect,
) -> String {
    let (Grant::Named, Some(principal)) = (context.grant, context.caller.principal()) else { return String::new() };
    let dialect = dialect.name();
    // For all versions, any one will do: only the part of the address before the version is signed.
    let version = tag.unwrap_or("0");
    let address = zip_address(service, found, version, dialect);
    let zips = if tag.is_some() { SignedZips::one(&address) } else { SignedZips::all_versions(&address) };
    service.access.sign(principal, &zips)
}

fn zip_address(service: &Service, found: &FoundPackage, version: &str, dialect: DialectName) -> String {
    match found {
        FoundPackage::Package(package) => dialect::zipball_url("", &service.names, package, version, dialect),
        FoundPackage::Folder(folder) => dialect::folder_zipball_url("", folder, version, dialect),
    }
}

/// The error for a caller who may not read what the request asks for.
pub(super) fn refusal(parts: &Parts, context: &mut RequestContext) -> ApiError {
    // Without the upstream in the answer: it would reveal where the name leads.
    context.package = None;
    match &context.caller {
        Caller::Anonymous if access::has_signature(&parts.uri) => ApiError::Unauthorized(Unauthorized::Address),
        Caller::Anonymous => ApiError::Unauthorized(Unauthorized::NoCredentials),
        Caller::Principal(_) | Caller::Operator => ApiError::Registry(RegistryError::Fetch(CacheFailure {
            error: FetchError::NotFound(Missing::Package),
            status: CacheStatus::generated(),
        })),
    }
}
