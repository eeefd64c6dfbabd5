//! GitHub's primary rate limit: a counter per caller and hour.

use std::{
    collections::HashMap,
    sync::Mutex,
    time::{SystemTime, UNIX_EPOCH},
};

use super::body::Answer;

struct Counters {
    anonymous: u64,
    token: u64,
    window: u64,
    /// By token, empty for the anonymous caller: the number of requests, and the end of the window.
    used: HashMap<String, (u64, u64)>,
}

pub struct Rate(Mutex<Counters>);

/// The state of a caller's quota after a request.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    pub limit: u64,
    pub used: u64,
    pub reset: u64,
    pub exceeded: bool,
}

impl Default for Rate {
    fn default() -> Self {
        Self(Mutex::new(Counters { anonymous: 60, token: 5000, window: 3600, used: HashMap::new() }))
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

impl Rate {
    pub fn set_limits(&self, anonymous: u64, token: u64) {
        let mut counters = self.0.lock().unwrap();
        counters.anonymous = anonymous;
        counters.token = token;
    }

    /// Sets the seconds from the first request of a window to its end, for running windows as well.
    pub fn set_window(&self, seconds: u64) {
        let mut counters = self.0.lock().unwrap();
        counters.window = seconds;
        counters.used.values_mut().for_each(|used| used.1 = now() + seconds);
    }

    /// Resets the quota of every caller.
    pub fn renew(&self) {
        self.0.lock().unwrap().used.clear();
    }

    pub fn used(&self, token: Option<&str>) -> u64 {
        self.0.lock().unwrap().used.get(token.unwrap_or_default()).map_or(0, |used| used.0)
    }

    /// Counts one request.
    pub fn take(&self, token: Option<&str>) -> Standing {
        let mut counters = self.0.lock().unwrap();
        let limit = if token.is_some() { counters.token } else { counters.anonymous };
        let fresh = now() + counters.window;
        let used = counters.used.entry(token.unwrap_or_default().to_owned()).or_insert((0, fresh));
        if used.1 < now() {
            *used = (0, fresh);
        }
        let exceeded = used.0 >= limit;
        used.0 = limit.min(used.0 + 1);
        Standing { limit, used: used.0, reset: used.1, exceeded }
    }

    /// Refunds a request that is free of charge (a 304 with a token).
    pub fn give_back(&self, token: &str, standing: &mut Standing) {
        if let Some(used) = self.0.lock().unwrap().used.get_mut(token) {
            used.0 = used.0.saturating_sub(1);
        }
        standing.used = standing.used.saturating_sub(1);
    }
}

impl Standing {
    /// Adds the `x-ratelimit-*` headers.
    pub fn write(self, answer: Answer) -> Answer {
        answer
            .header("x-ratelimit-limit", &self.limit.to_string())
            .header("x-ratelimit-remaining", &(self.limit - self.used).to_string())
            .header("x-ratelimit-used", &self.used.to_string())
            .header("x-ratelimit-reset", &self.reset.to_string())
            .header("x-ratelimit-resource", "core")
    }
}
