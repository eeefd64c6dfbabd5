//! The order of one request, from its header to the response's header.

use std::{
    future::{Ready, ready},
    sync::Arc,
};

use bytes::Bytes;
use futures_util::future::{BoxFuture, Either};
use http::{Method, Request, Response, Version, request::Parts};

use super::{
    Service,
    access_log::{self, AbortGuard},
    caller,
    context::RequestContext,
    error::ApiError,
    found_package::FoundPackage,
    handlers::{
        admin, catalog, folder,
        health::{self, is_health_check},
        json, metrics, openapi, publish, zip,
    },
    headers::{CACHE_NAME, CACHE_STATUS, X_REQUEST_ID, close_connection, restrict_to_callers, restrict_to_clients},
    snapshot::Snapshot,
    sources, web,
};
use crate::{
    dialect::{self, ApiRequest, Dialect, Ops, PackageRef, Reason, RouteError, ZipForm},
    http::{body::Body, cache_status::CacheStatus, field::passed_through},
    peer::{BreakConnection, ClientRequest, Peer, Refusal, RequestTrace},
    registry::Audience,
};

/// A response that is ready, or the future of one.
pub type ResponseFuture = Either<Ready<Response<Body>>, BoxFuture<'static, Response<Body>>>;

impl Service {
    /// Answers one request: from the response cache without waiting, else by the handler of its route.
    ///
    /// Only administration and publishing read the request's body. Dropping the future abandons the request; a download
    /// that it started goes on for other clients.
    pub fn handle<B>(self: &Arc<Self>, request: Request<B>, peer: Peer) -> ResponseFuture
    where
        B: http_body::Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static> + Send + 'static,
    {
        let (parts, body) = request.into_parts();
        let mut context = self.context(&parts, peer);
        let is_control = context.peer.is_control();
        let mut unverified = None;
        if !is_health_check(parts.uri.path()) {
            let begun = match caller::identify(self, &parts, &mut context) {
                Ok(None) => self.count_request(&mut context),
                Ok(pending) => {
                    unverified = pending;
                    Ok(())
                }
                Err(error) => Err(error),
            };
            if let Err(error) = begun {
                return Either::Left(ready(self.refuse_parts(&parts, context, error)));
            }
        }
        // Only once the caller is known: cached responses depend on the credential.
        if unverified.is_none()
            && let Some(mut response) = self.response_cache.get(&parts, &mut context)
        {
            response.headers_mut().insert(X_REQUEST_ID, context.id.to_header());
            return Either::Left(ready(access_log::log_at_end(self.framed(response, &parts), &parts, context)));
        }
        let service = self.clone();
        // Boxed: the combined future of all handlers is large.
        Either::Right(Box::pin(async move {
            let is_read = parts.method == Method::GET || parts.method == Method::HEAD;
            let input = (is_control || !is_read).then(|| admin::input(body));
            if let Some(pending) = unverified {
                let mut abort_guard = AbortGuard::new(&parts, &mut context);
                let verified = caller::verify(&service, pending, abort_guard.context()).await;
                abort_guard.disarm();
                if let Err(error) = verified.and_then(|()| service.count_request(&mut context)) {
                    return service.refuse_parts(&parts, context, error);
                }
            }
            let client = context.client_id();
            let allowance = context.client_request.as_ref().map(ClientRequest::allowance);
            let mut abort_guard = AbortGuard::new(&parts, &mut context);
            let trace = RequestTrace::of_request(&parts.headers, abort_guard.context().id.to_header());
            let answer = service.respond(&parts, input, abort_guard.context());
            let answer = trace.scope(answer);
            let result = client.scope(allowance, answer).await;
            abort_guard.disarm();
            let cooldown = service.registry.cooldown();
            let mut response = result.unwrap_or_else(|error| {
                let refused_fetch = context.client_request.as_ref().and_then(ClientRequest::refused_fetch);
                let error = refused_fetch.map_or(error, ApiError::Refused);
                let response = error.into_response(&parts, &mut context, cooldown);
                web::with_error_page(&service, response, &parts, &context)
            });
            context.note_unknown_name();
            service.finish(&mut response, &parts, &context);
            service.response_cache.insert(&parts, &context, &response);
            access_log::log_at_end(service.framed(response, &parts), &parts, context)
        }))
    }

    /// Counts the request against the limits of its client.
    ///
    /// # Errors
    /// `Refused` when the client has reached a limit.
    fn count_request(&self, context: &mut RequestContext) -> Result<(), ApiError> {
        context.client_request = self.clients.begin(context.client_id())?;
        Ok(())
    }

    /// Refuses one request without looking anything up: in the envelope of its dialect, with its log event.
    pub fn refuse<B>(&self, request: Request<B>, peer: Peer, refusal: Refusal) -> Response<Body> {
        let (parts, _) = request.into_parts();
        let context = self.context(&parts, peer);
        self.refuse_parts(&parts, context, refusal.into())
    }

    fn refuse_parts(&self, parts: &Parts, mut context: RequestContext, error: ApiError) -> Response<Body> {
        let route = dialect::parse(&self.names, &parts.method, parts.uri.path(), parts.uri.query()).map(Arc::new);
        context.set_route(&route);
        let response = error.into_response(parts, &mut context, self.registry.cooldown());
        let mut response = web::with_error_page(self, response, parts, &context);
        close_connection(&mut response, parts);
        self.finish(&mut response, parts, &context);
        access_log::log_at_end(self.framed(response, parts), parts, context)
    }

    /// The context of a new request.
    fn context(&self, parts: &Parts, peer: Peer) -> RequestContext {
        let id = if self.client_addresses.is_proxy(&peer) {
            self.request_ids.keep_or_next(&parts.headers)
        } else {
            self.request_ids.next()
        };
        let client = self.client_addresses.address(&peer, &parts.headers);
        RequestContext::new(
            id,
            self.registry.now(),
            peer,
            client,
            parts.version,
            self.audit.clone(),
            self.metrics.of_this_thread(),
        )
    }

    /// Parses the request, checks it, and calls the handler of its route. `input` is the request's body; `None` where it is
    /// not read.
    async fn respond(
        &self,
        parts: &Parts,
        mut input: Option<admin::Input>,
        context: &mut RequestContext,
    ) -> Result<Response<Body>, ApiError> {
        let path = parts.uri.path();
        let route = dialect::parse(&self.names, &parts.method, path, parts.uri.query()).map(Arc::new);
        context.set_route(&route);
        let request = route.as_ref().ok().map(|route| &route.request);
        if !self.metrics_exposure.permits(context.peer.listener, request) {
            return Err(no_such_page(route.map_or(Dialect::Srm, |route| route.dialect)));
        }
        match route.as_ref().map(|route| &route.request) {
            // Before the host check: health checks and scrapers connect by IP address.
            Ok(ApiRequest::Ops(Ops::Metrics)) => return metrics(self, parts, context),
            Ok(ApiRequest::Ops(ops @ (Ops::Healthz | Ops::Readyz))) => {
                return Ok(health::respond(self, ops, &parts.method));
            }
            Ok(ApiRequest::Ops(Ops::OpenApi)) => return Ok(openapi::respond(parts)),
            Ok(ApiRequest::Ops(Ops::Admin(path))) if context.peer.is_control() => {
                if let Some(input) = input.take() {
                    return Ok(admin::answer(self, &parts.method, path, input, context).await);
                }
            }
            _ => {}
        }
        let host = self.hosts.request_host(parts, &context.peer)?;
        if web::is_root(parts) {
            return Ok(web::redirect(&host));
        }
        let route = route?;
        if passed_through(&parts.headers, &self.pseudonym) || RequestTrace::current().is_too_long() {
            return Err(ApiError::Loop);
        }
        if route.request.is_publication() || route.request == ApiRequest::RenewCode {
            return publish::respond(self, parts, context, &host, &route, input).await;
        }
        caller::check_asked(self, &route, parts, context)?;
        if let ApiRequest::Detail { package, page } = &route.request
            && let Some(response) =
                publish::failed::respond_with_failures(self, parts, context, &host, package, *page).await?
        {
            return Ok(response);
        }
        let package = match &route.request {
            ApiRequest::Ops(Ops::Web(page)) => return web::respond(self, parts, context, page, &host).await,
            ApiRequest::Ops(Ops::Admin(_)) if web::is_asked_by_browser(parts) => {
                return Err(no_such_page(route.dialect));
            }
            ApiRequest::Ops(Ops::Admin(path)) => {
                return admin::remote::answer(self, parts, path, input, context).await;
            }
            ApiRequest::Ops(_) => return Ok(health::no_such_page(&parts.method)),
            request @ (ApiRequest::Catalog(_) | ApiRequest::Menu(_) | ApiRequest::OwnPackages(_)) => {
                return catalog::respond(self, parts, context, request).await;
            }
            request => self.find_package(request.package(), route.dialect, parts, context).await?,
        };
        match (&route.request, &package) {
            (ApiRequest::Archive { version, .. }, FoundPackage::Package(package)) => {
                zip::respond(self, parts, context, package, version, route.dialect).await
            }
            (ApiRequest::Flat { version, .. }, FoundPackage::Package(package)) => {
                zip::respond_flat(self, parts, context, package, version).await
            }
            (ApiRequest::Archive { version, .. }, FoundPackage::Folder(folder)) => {
                folder::respond(self, parts, context, folder, version, route.dialect.zip_form()).await
            }
            (ApiRequest::Flat { version, .. }, FoundPackage::Folder(folder)) => {
                folder::respond(self, parts, context, folder, version, ZipForm::Flat).await
            }
            _ => json::respond(self, parts, context, &route, &package, &host).await,
        }
    }

    /// Finds the package that the request names on its upstream, and notes its generation before anything of it is
    /// looked up: the response may be cached only if nothing has changed since.
    async fn find_package(
        &self,
        package: Option<&PackageRef>,
        dialect: Dialect,
        parts: &Parts,
        context: &mut RequestContext,
    ) -> Result<FoundPackage, ApiError> {
        let package = package.ok_or(ApiError::NotJson)?;
        let found = sources::resolve(&self.registry, &self.names, package, dialect.name()).await;
        let package = match found {
            Ok(package) => package,
            Err(failure) => {
                context.package = failure.package.map(Arc::new);
                return Err(failure.error);
            }
        };
        let generation = self.registry.generation(package.id());
        context.snapshot = Some(Snapshot::new(context.received_at, generation));
        context.package = Some(Arc::new(package.id().clone()));
        context.audience = self.registry.documents().audience(package.id()).await;
        caller::check_found(self, &package, parts, context).await?;
        Ok(package)
    }

    /// Splits the body into short frames for HTTP/2, and counts the bytes that wait for the client.
    fn framed(&self, response: Response<Body>, parts: &Parts) -> Response<Body> {
        match parts.version {
            Version::HTTP_2 => response.map(|body| body.in_http2_frames(&self.send_memory)),
            _ => response,
        }
    }

    /// Adds the header fields of every response. Responses from the response cache have them already.
    fn finish(&self, response: &mut Response<Body>, parts: &Parts, context: &RequestContext) {
        finish(response, parts, context);
        if self.access.is_enabled() && !context.peer.is_control() {
            restrict_to_callers(response.headers_mut());
        }
    }
}

/// The error for a page that does not exist.
fn no_such_page(dialect: Dialect) -> ApiError {
    let reason = Reason::NotFound("this mirror has no such page".into());
    ApiError::Route(RouteError { dialect, reason })
}

/// Responds with the figures, if the caller may read them.
fn metrics(service: &Service, parts: &Parts, context: &mut RequestContext) -> Result<Response<Body>, ApiError> {
    if !service.access.may_read_metrics(&context.caller) {
        return Err(caller::refusal(parts, context));
    }
    Ok(metrics::respond(service, &parts.method))
}

/// Adds the header fields that do not depend on the access rules.
fn finish(response: &mut Response<Body>, parts: &Parts, context: &RequestContext) {
    let request = context.request();
    if dialect::is_upload(&parts.method, parts.uri.path()) && !response.status().is_success() {
        // The client takes every response for a success, so every refusal breaks the connection, also one before the handler
        // and one of a name that cannot be parsed.
        *response.body_mut() = Body::unsent();
        response.extensions_mut().insert(BreakConnection);
    }
    // A client that expected a zip does not read an error's body and would keep the connection open.
    let is_zip_or_unknown = matches!(request, None | Some(ApiRequest::Archive { .. } | ApiRequest::Flat { .. }));
    if is_zip_or_unknown && (response.status().is_client_error() || response.status().is_server_error()) {
        close_connection(response, parts);
    }
    // hyper sends no body to HEAD: it would be reported as aborted.
    if parts.method == Method::HEAD {
        *response.body_mut() = Body::empty();
    }
    let headers = response.headers_mut();
    if context.audience == Audience::Clients {
        restrict_to_clients(headers);
    }
    if let Some(status) = &context.cache_status {
        headers.insert(CACHE_STATUS, status.render(CACHE_NAME));
    } else if !matches!(request, Some(ApiRequest::Ops(_))) {
        // Nothing was looked up and nothing forwarded.
        headers.insert(CACHE_STATUS, CacheStatus::generated().render(CACHE_NAME));
    }
    headers.insert(X_REQUEST_ID, context.id.to_header());
}
