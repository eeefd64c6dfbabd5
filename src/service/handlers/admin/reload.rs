//! Reads the configuration again.

use super::AdminError;
use crate::{
    admin_api::{ErrorCode, ReloadReport},
    service::{ReloadError, Service},
};

impl From<ReloadError> for AdminError {
    fn from(error: ReloadError) -> Self {
        let code = match error {
            ReloadError::Invalid(_) => ErrorCode::InvalidConfiguration,
            ReloadError::NoSource => ErrorCode::NoSuchRoute,
            ReloadError::Aborted => ErrorCode::Other,
        };
        Self::new(code, error.to_string())
    }
}

pub(super) async fn reload(service: &Service) -> Result<ReloadReport, AdminError> {
    let reloader = service.reloader.upgrade().ok_or(ReloadError::NoSource)?;
    Ok(reloader.reload().await?)
}
