//! `/metrics`: the figures of the mirror in the text format of Prometheus.
//!
//! No label comes from outside: upstreams and credentials are those of the configuration.

use std::{fmt, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Method, Response, header};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _, NoLabelSet, prometheus_text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry as MetricRegistry,
};

use crate::{
    dialect::{ApiRequest, Ops},
    http::body::Body,
    observe::{
        self, AuditLog, CACHE_OUTCOMES, DOWNLOAD_OUTCOMES, FAILURE_CAUSES, RouteTotals, STATUS_LABELS, TIME_BOUNDS_S,
        TimeTotals,
    },
    peer::{CertificateEnd, ListenerKind},
    registry::{CredentialStatus, PlaceKind, Registry, UpstreamReportLine},
    service::{Service, headers::NO_STORE},
};

mod bucket;

/// The text format that Prometheus reads.
const TEXT_FORMAT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
/// The prefix of every name.
const METRIC_PREFIX: &str = "srm_mirror";

/// Which listeners answer with the figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsExposure {
    /// Every one.
    AllListeners,
    /// Those for metrics (`server.metrics_listen`) and the control socket.
    OwnListener,
}

impl MetricsExposure {
    /// The exposure with these addresses of listeners for metrics.
    pub(crate) fn of_listeners(addresses: &[SocketAddr]) -> Self {
        if addresses.is_empty() { Self::AllListeners } else { Self::OwnListener }
    }

    /// True when a listener answers such requests at all.
    pub(in crate::service) fn permits(self, listener: ListenerKind, request: Option<&ApiRequest>) -> bool {
        match listener {
            ListenerKind::Control => true,
            ListenerKind::Metrics => {
                matches!(request, Some(ApiRequest::Ops(Ops::Metrics | Ops::Healthz | Ops::Readyz)))
            }
            ListenerKind::Plain | ListenerKind::Tls => {
                self == Self::AllListeners || !matches!(request, Some(ApiRequest::Ops(Ops::Metrics)))
            }
        }
    }
}

/// Responds with the present figures.
pub(in crate::service) fn respond(service: &Service, method: &Method) -> Response<Body> {
    let mut registry = MetricRegistry::with_prefix(METRIC_PREFIX);
    registry.register_collector(Box::new(Figures::of(service)));
    let mut text = String::with_capacity(64 << 10);
    // Writing to a text does not fail.
    let _ = prometheus_text::encode(&mut text, &registry);
    let len = HeaderValue::from(text.len());
    let mut response =
        Response::new(if *method == Method::HEAD { Body::empty() } else { Body::full(Bytes::from(text)) });
    response.headers_mut().insert(header::CONTENT_TYPE, TEXT_FORMAT);
    response.headers_mut().insert(header::CONTENT_LENGTH, len);
    response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
    response
}

/// The figures of one answer, each read once.
struct Figures {
    routes: Vec<(&'static str, RouteTotals)>,
    registry: Arc<Registry>,
    upstreams: Vec<UpstreamReportLine>,
    refused: Vec<(&'static str, u64)>,
    causes: [(&'static str, u64); FAILURE_CAUSES.len()],
    audit_lost: u64,
    is_ready: bool,
    degraded: usize,
    certificates: Vec<CertificateEnd>,
}

impl fmt::Debug for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Figures").finish_non_exhaustive()
    }
}

type Encoded = Result<(), fmt::Error>;

impl Figures {
    fn of(service: &Service) -> Self {
        let registry = &service.registry;

        Self {
            routes: service.metrics.routes(),
            upstreams: registry.upstreams().report(),
            refused: service.clients.counts().to_vec(),
            causes: service.metrics.causes(),
            audit_lost: service.audit.as_ref().map_or(0, AuditLog::lost),
            certificates: service.certificates.get(),
            is_ready: service.readiness.is_ready(),
            degraded: service.faults().into_reasons().len(),
            registry: registry.clone(),
        }
    }

    fn requests(&self, encoder: &mut DescriptorEncoder<'_>) -> Encoded {
        let help = "Responses by route and status code; 499: the client left before the header; 0: any other code";
        let mut family = encoder.encode_descriptor("requests", help, None, MetricType::Counter)?;
        for (route, figures) in &self.routes {
            for (status, count) in STATUS_LABELS.into_iter().zip(figures.statuses) {
                let labels = [("route", (*route).to_owned()), ("code", status.to_string())];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "Lookups by route and how the cache answered";
        let mut family = encoder.encode_descriptor("cache_answers", help, None, MetricType::Counter)?;
        for (route, figures) in &self.routes {
            for (outcome, count) in CACHE_OUTCOMES.into_iter().zip(figures.outcomes) {
                let labels = [("route", *route), ("outcome", outcome)];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "Errors about a package, by cause";
        let mut family = encoder.encode_descriptor("package_errors", help, None, MetricType::Counter)?;
        for (cause, count) in self.causes {
            ConstCounter::new(count).encode(family.encode_family(&[("cause", cause)])?)?;
        }
        let help = "Bytes of response bodies";
        let mut family = encoder.encode_descriptor("response_bytes", help, None, MetricType::Counter)?;
        for (route, figures) in &self.routes {
            ConstCounter::new(figures.bytes).encode(family.encode_family(&[("route", *route)])?)?;
        }
        let help = "Time from a request's header to the response's";
        let mut family = encoder.encode_descriptor("response_head_seconds", help, None, MetricType::Histogram)?;
        for (route, figures) in &self.routes {
            encode_times(&figures.head, &mut family.encode_family(&[("route", *route)])?)?;
        }
        let help = "Time from a request's header to the end of the response";
        let mut family = encoder.encode_descriptor("response_seconds", help, None, MetricType::Histogram)?;
        for (route, figures) in &self.routes {
            encode_times(&figures.whole, &mut family.encode_family(&[("route", *route)])?)?;
        }
        Ok(())
    }

    fn upstreams(&self, encoder: &mut DescriptorEncoder<'_>) -> Encoded {
        let help = "Requests to upstreams, by what became of them";
        let mut family = encoder.encode_descriptor("upstream_requests", help, None, MetricType::Counter)?;
        self.registry.upstreams().visit_metrics(&mut |name, metrics| {
            metrics.counts().into_iter().try_for_each(|(outcome, count)| {
                let labels = [("upstream", name), ("outcome", outcome)];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)
            })
        })?;
        let help = "Time from a request to an upstream to the header of its answer";
        let mut family = encoder.encode_descriptor("upstream_seconds", help, None, MetricType::Histogram)?;
        self.registry.upstreams().visit_metrics(&mut |name, metrics| {
            encode_times(&metrics.times.read(), &mut family.encode_family(&[("upstream", name)])?)
        })?;
        let help = "1 while the upstream is not asked because it does not answer";
        let mut family = encoder.encode_descriptor("upstream_breaker_open", help, None, MetricType::Gauge)?;
        for upstream in &self.upstreams {
            let labels = [("upstream", upstream.name.as_str())];
            ConstGauge::new(i64::from(upstream.gate.open.is_some())).encode(family.encode_family(&labels)?)?;
        }
        let help = "Requests that wait for a place at the upstream";
        let mut family = encoder.encode_descriptor("upstream_waiting", help, None, MetricType::Gauge)?;
        for upstream in &self.upstreams {
            for kind in [PlaceKind::Document, PlaceKind::Download] {
                let queue = upstream.gate.queues.iter().find(|queue| queue.kind == kind);
                let waiting = queue.map_or(0, |queue| queue.waiting);
                let labels = [("upstream", upstream.name.as_str()), ("places", kind.name())];
                ConstGauge::new(as_gauge(waiting as u64)).encode(family.encode_family(&labels)?)?;
            }
        }
        self.credentials(encoder)
    }

    fn credentials(&self, encoder: &mut DescriptorEncoder<'_>) -> Encoded {
        let labels = |upstream: &UpstreamReportLine, status: &CredentialStatus| {
            [("upstream", upstream.name.clone()), ("credential", status.label.clone())]
        };
        let help = "1 while the upstream refuses the credential, for one owner or for all";
        let mut family = encoder.encode_descriptor("credential_refused", help, None, MetricType::Gauge)?;
        for upstream in &self.upstreams {
            for status in &upstream.credentials {
                let refused = i64::from(!status.refusals.is_empty());
                ConstGauge::new(refused).encode(family.encode_family(&labels(upstream, status))?)?;
            }
        }
        let help = "Requests that the upstream still allows with the credential, as far as it has said";
        let mut family = encoder.encode_descriptor("quota_remaining", help, None, MetricType::Gauge)?;
        for upstream in &self.upstreams {
            for status in &upstream.credentials {
                if let Some(remaining) = status.quota.remaining {
                    ConstGauge::new(as_gauge(remaining)).encode(family.encode_family(&labels(upstream, status))?)?;
                }
            }
        }
        let help = "When the quota of the credential is restored, seconds since 1970";
        let mut family = encoder.encode_descriptor("quota_reset_timestamp_seconds", help, None, MetricType::Gauge)?;
        for upstream in &self.upstreams {
            for status in &upstream.credentials {
                if let Some(reset) = status.quota.reset {
                    ConstGauge::new(reset.as_second()).encode(family.encode_family(&labels(upstream, status))?)?;
                }
            }
        }
        Ok(())
    }

    fn stores(&self, encoder: &mut DescriptorEncoder<'_>) -> Encoded {
        let usage = self.registry.inventory().usage();
        let areas = &usage.disk_areas;
        let other = usage.disk.bytes.saturating_sub(areas.blobs + areas.documents + areas.quarantine);
        let help = "Bytes in the cache directory by what they hold";
        let mut family = encoder.encode_descriptor("disk_bytes", help, None, MetricType::Gauge)?;
        for (area, bytes) in
            [("zips", areas.blobs), ("documents", areas.documents), ("quarantine", areas.quarantine), ("other", other)]
        {
            ConstGauge::new(as_gauge(bytes)).encode(family.encode_family(&[("area", area)])?)?;
        }
        let memory = self.registry.memory();
        for (name, help, value) in [
            ("disk_limit_bytes", "Most bytes in the cache directory (disk.limit)", usage.disk.limit),
            ("disk_objects", "Zips and documents on disk", usage.disk.objects),
            ("memory_zip_bytes", "Bytes of small zips in memory", usage.memory.bytes),
            ("memory_shared_bytes", "Bytes of memory that requests under way have taken", memory.taken()),
            ("memory_shared_limit_bytes", "Bytes of memory that requests under way may take", memory.total_bytes()),
            (
                "downloads",
                "Downloads from upstreams that are running",
                self.registry.inventory().fills_running() as u64,
            ),
            ("ready", "1 while /readyz answers 200; 0 while the mirror starts or shuts down", u64::from(self.is_ready)),
            ("degraded_reasons", "Reasons for which /readyz says degraded", self.degraded as u64),
        ] {
            let encoder = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(as_gauge(value)).encode(encoder)?;
        }
        let counters = usage.counters;
        let help = "Downloads from upstreams that have ended, by their outcome";
        let mut family = encoder.encode_descriptor("downloads_ended", help, None, MetricType::Counter)?;
        for (outcome, count) in DOWNLOAD_OUTCOMES.into_iter().zip(counters.downloads) {
            ConstCounter::new(count).encode(family.encode_family(&[("outcome", outcome)])?)?;
        }
        for (name, help, value) in [
            ("pins_settled", "Downloads whose content was pinned or equals its pin", counters.pins_settled),
            ("pin_mismatches", "Downloads that were refused: other content is pinned", counters.pin_mismatches),
            ("evicted_bytes", "Bytes that were removed from disk to make room", counters.evicted_bytes),
        ] {
            let encoder = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(value).encode(encoder)?;
        }
        Ok(())
    }

    fn process(&self, encoder: &mut DescriptorEncoder<'_>) -> Encoded {
        let help = "Requests that were refused because their client had reached a limit";
        let mut family = encoder.encode_descriptor("client_refusals", help, None, MetricType::Counter)?;
        for (limit, count) in &self.refused {
            ConstCounter::new(*count).encode(family.encode_family(&[("limit", *limit)])?)?;
        }
        let help = "Lines of the audit log that were lost";
        let metric = encoder.encode_descriptor("audit_lost_lines", help, None, MetricType::Counter)?;
        ConstCounter::new(self.audit_lost).encode(metric)?;
        let help = "Events of the process log and the access log that were lost: standard error is read too slowly";
        let metric = encoder.encode_descriptor("log_lost_events", help, None, MetricType::Counter)?;
        ConstCounter::new(observe::lost_log_events()).encode(metric)?;
        let help = "When the mirror's own certificate, or one that it is sent with, ends, seconds since 1970";
        let name = "certificate_expiry_timestamp_seconds";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for certificate in &self.certificates {
            if let Some(not_after) = certificate.not_after {
                let labels = [("certificate", certificate.name.as_str())];
                ConstGauge::new(not_after.as_second()).encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "1, with the version of the program";
        let mut family = encoder.encode_descriptor("build_info", help, None, MetricType::Gauge)?;
        ConstGauge::new(1_i64).encode(family.encode_family(&[("version", env!("CARGO_PKG_VERSION"))])?)
    }
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Encoded {
        self.requests(&mut encoder)?;
        self.upstreams(&mut encoder)?;
        self.stores(&mut encoder)?;
        let usage = self.registry.inventory().usage();
        usage.bucket.iter().try_for_each(|state| bucket::encode(state, &mut encoder))?;
        usage.fleet.iter().try_for_each(|figures| bucket::encode_fleet(figures, &mut encoder))?;
        self.process(&mut encoder)
    }
}

fn encode_times(times: &TimeTotals, encoder: &mut prometheus_client::encoding::MetricEncoder<'_>) -> Encoded {
    let bounds = TIME_BOUNDS_S.into_iter().chain([f64::MAX]);
    let buckets: Vec<(f64, u64)> = bounds.zip(times.buckets).collect();
    encoder.encode_histogram::<NoLabelSet>(times.sum_seconds(), times.buckets.iter().sum(), &buckets, None)
}

fn as_gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
