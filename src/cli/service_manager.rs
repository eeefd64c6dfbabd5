//! Notifies the service manager that started this process (sd_notify of systemd): ready, stopping, and alive.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::server::ThreadProbe;

/// Sends a state to the service manager, if there is one.
pub(super) fn notify(state: NotifyState<'_>) {
    // Without a service manager there is nothing to do, and one that has gone gets no message.
    let _ = sd_notify::notify(&[state]);
}

/// Answers the watchdog of the service manager, if it has set one, until the handle is dropped.
pub(super) fn answer_watchdog(probe: ThreadProbe) -> Option<AbortOnDropHandle<()>> {
    let deadline = sd_notify::watchdog_enabled()?;
    Some(AbortOnDropHandle::new(tokio::spawn(answer_every(deadline / 2, probe))))
}

/// Notifies the watchdog once in each period, unless a thread that serves connections takes no work: without the
/// notification, the service manager restarts the mirror.
async fn answer_every(period: Duration, probe: ThreadProbe) {
    // A period of zero would panic.
    let mut ticks = interval(period.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match timeout(period, probe.all_run_a_task()).await {
            Ok(()) => notify(NotifyState::Watchdog),
            Err(_) => tracing::error!("a thread that serves connections does not run: the watchdog is not answered"),
        }
    }
}
