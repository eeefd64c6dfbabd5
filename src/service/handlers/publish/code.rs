//! `POST /v3/user/token`: a new code for the account that signs the request, as `registry login --retoken` asks for it.

use http::{Response, request::Parts};
use serde_json::json;

use super::{Body, Denial, PublishFailure, failure::BUCKET_RETRY, permission, v3_answer};
use crate::{
    access::TokenError,
    blocking::spawn_blocking,
    service::{Service, audit::Acts, context::RequestContext},
};

/// Replaces the code of the caller, and answers with the new one.
pub(super) async fn renew(
    service: &Service,
    parts: &Parts,
    context: &mut RequestContext,
) -> Result<Response<Body>, Denial> {
    if !service.access.is_enabled() {
        let message = "this mirror serves everyone, and has no accounts and no codes";
        return Err(PublishFailure::forbidden(message).into());
    }
    permission::check_caller(service, parts, context)?;
    let Some(principal) = context.caller.principal().cloned() else {
        return Err(PublishFailure::forbidden(TokenError::NoCode).into());
    };
    let acts = Acts::of(context);
    let act = acts.begin("token/renew", &json!({"name": principal.name})).await?;
    let access = service.access.clone();
    let credential = principal.clone();
    let renewed = spawn_blocking(move || access.account_changes().renew_code(&credential)).await;
    let renewed = renewed.unwrap_or_else(|error| Err(std::io::Error::other(error).into()));
    act.end(renewed.as_ref().err().map(ToString::to_string).as_deref()).await;
    match renewed {
        Ok(code) => {
            tracing::info!(account = %principal.name, "the code of an account is replaced");
            Ok(v3_answer(context, &json!({"safety_code": code.reveal(), "name": principal.name})))
        }
        Err(TokenError::NoCode) => Err(PublishFailure::forbidden(TokenError::NoCode).into()),
        Err(error @ TokenError::Shared(_)) => Err(PublishFailure::bucket_unavailable(error, BUCKET_RETRY).into()),
        Err(error) => {
            tracing::error!(%error, "the tokens of this mirror cannot be written");
            Err(PublishFailure::unwritable(
                "this mirror cannot write its tokens, and the code is as before; ask its operator",
            )
            .into())
        }
    }
}
