//! The figures of the shared bucket and of the zips that nodes send each other.

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

use super::{Encoded, as_gauge};
use crate::registry::{BucketState, FleetFigures};

pub(super) fn encode_fleet(figures: &FleetFigures, encoder: &mut DescriptorEncoder<'_>) -> Encoded {
    let help = "Zips that nodes of the fleet have sent each other, or begun to: read by this one, sent by it, and attempts \
                to read that failed";
    let mut family = encoder.encode_descriptor("fleet_archives", help, None, MetricType::Counter)?;
    for (outcome, count) in [("read", figures.read), ("sent", figures.served), ("failed", figures.failed)] {
        ConstCounter::new(count).encode(family.encode_family(&[("outcome", outcome)])?)?;
    }
    Ok(())
}

pub(super) fn encode(state: &BucketState, encoder: &mut DescriptorEncoder<'_>) -> Encoded {
    let help = "Requests to the shared bucket by what they do and whether they succeeded";
    let mut family = encoder.encode_descriptor("bucket_requests", help, None, MetricType::Counter)?;
    for counts in &state.status.requests {
        for (outcome, count) in [("succeeded", counts.succeeded), ("failed", counts.failed)] {
            let labels = [("operation", counts.operation.name()), ("outcome", outcome)];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
    }
    for (name, help, value) in [
        (
            "bucket_paused",
            "1 while the shared bucket is not asked because it failed",
            u64::from(state.status.paused_seconds.is_some()),
        ),
        ("upload_queue_archives", "Zips that wait for their upload to the shared bucket", state.queued.archives),
        ("upload_queue_bytes", "Bytes of the zips that wait for their upload", state.queued.bytes),
        ("upload_queue_limit_bytes", "Most bytes that wait for their upload (shared.upload_queue)", state.queue_limit),
    ] {
        let encoder = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(as_gauge(value)).encode(encoder)?;
    }
    Ok(())
}
