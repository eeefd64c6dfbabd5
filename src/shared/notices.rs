//! When a mirror reads the changes of others: at an interval, and at once after the notice of a node of the fleet.

use std::time::Duration;

use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};

/// Shortest pause between two reads of the same state, so that many changes of others cost few reads.
const MIN_READ_PAUSE: Duration = Duration::from_millis(100);

/// Notices of changes in the bucket, from other nodes and for them.
#[derive(Debug)]
pub struct ChangeNotices {
    /// Longest time until a change of another mirror is read.
    max_age: Duration,
    /// Counts the notices of other nodes.
    received: watch::Sender<u64>,
    /// Notified when this mirror has written a change.
    written: Notify,
}

/// The notices that one reader of a state waits for.
#[derive(Debug)]
pub struct ChangeListener {
    received: watch::Receiver<u64>,
    interval: Duration,
}

impl ChangeNotices {
    /// Without notices of other nodes, changes are read so often that none is older than `max_age`.
    pub fn new(max_age: Duration) -> Self {
        Self { max_age, received: watch::Sender::new(0), written: Notify::new() }
    }

    /// A listener for a reader that reads at least every `percent` of `max_age`.
    pub fn listen(&self, percent: u32) -> ChangeListener {
        ChangeListener { received: self.received.subscribe(), interval: self.max_age * percent.min(100) / 100 }
    }

    /// Records the notice that another node has written a change.
    pub fn note_received(&self) {
        self.received.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Records that this mirror has written a change.
    pub fn note_written(&self) {
        self.written.notify_one();
    }

    /// Waits until this mirror has written a change that was not waited for yet.
    pub async fn written(&self) {
        self.written.notified().await;
    }
}

impl ChangeListener {
    /// Waits until the state must be read again: because of its age, a notice, or `changed`, a change of this mirror.
    pub async fn due(&mut self, changed: impl Future<Output = ()>) {
        sleep(MIN_READ_PAUSE.min(self.interval)).await;
        let received = async {
            // The sender lives as long as the bucket, and the readers end before it.
            let _ = self.received.changed().await;
        };
        let either = async {
            tokio::select! {
                () = received => {}
                () = changed => {}
            }
        };
        let _ = timeout(self.interval.saturating_sub(MIN_READ_PAUSE), either).await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_state_is_read_again_at_its_age_and_at_once_after_a_notice_or_a_change_of_ones_own() {
        let notices = ChangeNotices::new(Duration::from_secs(5));
        let mut listener = notices.listen(80);
        let waited = async |listener: &mut ChangeListener, began: Instant| {
            listener.due(pending()).await;
            began.elapsed()
        };
        assert_eq!(waited(&mut listener, Instant::now()).await, Duration::from_secs(4));
        // However many notices arrive, also while the state is read, there is one more read.
        (0..1000).for_each(|_| notices.note_received());
        assert_eq!(waited(&mut listener, Instant::now()).await, MIN_READ_PAUSE);
        assert_eq!(waited(&mut listener, Instant::now()).await, Duration::from_secs(4));
        let began = Instant::now();
        listener.due(async {}).await;
        assert_eq!(began.elapsed(), MIN_READ_PAUSE);
    }
}
