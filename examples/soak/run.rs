//! The schedule: lives of the mirror with load and kill -9, quiet phases between them, and the checks at the end.

use std::{
    fs, io,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::{sync::watch, task::spawn_blocking, time::sleep};

use super::{
    Arguments,
    administration::{Administration, count_damaged},
    chaos::ChaosProxy,
    client::SoakClient,
    content::Content,
    dice::Dice,
    final_round,
    forge::Forge,
    process_samples::{Descriptors, anonymous_memory, count_files, space},
    served_mirror::{DISK_LIMIT, MEMORY_LIMIT, MirrorProgram, ServedMirror},
    summary::Summary,
    tally::SoakCounts,
};

/// Interval between two samples.
const TICK: Duration = Duration::from_millis(200);
/// What the process may take besides `memory.limit`: code, stacks, buffers of connections, the index's cache.
pub(crate) const MEMORY_REST: u64 = 96 << 20;
/// Longest wait until an undisturbed mirror without clients has closed everything.
const QUIET_TIMEOUT: Duration = Duration::from_secs(30);
/// Files that the mirror keeps open without a reader.
const IDLE_FILES: u64 = 128;
/// Every so many lives one is long and has quiet phases.
const LIVES_TO_QUIET: u64 = 4;

/// What a run needs and what it has measured.
struct Soak {
    forge: Forge,
    proxy: ChaosProxy,
    content: Arc<Content>,
    counts: Arc<SoakCounts>,
    program: MirrorProgram,
    /// The mirror that the clients visit; `None` while they pause.
    address: watch::Sender<Option<SocketAddr>>,
    administration: Administration,
    dice: Dice,
    moves: u64,
    summary: Summary,
}

/// Runs until the load has lasted `arguments.seconds`, then checks what is left.
///
/// # Errors
/// The machine's: no directory, no program, a mirror that does not start.
pub(crate) async fn run(arguments: &Arguments) -> io::Result<Summary> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |now| now.as_secs());
    let seed = arguments.seed.unwrap_or(now);
    eprintln!("soak: seed {seed}");
    let work = arguments.work.clone();
    let work = work.unwrap_or_else(|| std::env::temp_dir().join(format!("srm-mirror-soak-{}", std::process::id())));
    fs::create_dir_all(&work)?;
    let work = fs::canonicalize(work)?;
    let mut soak = Soak::prepare(arguments, seed, work.clone()).await?;
    let started = Instant::now();
    let until = started + Duration::from_secs(arguments.seconds);
    while Instant::now() < until && soak.counts.violations() < 20 {
        soak.life(until).await?;
    }
    soak.summary.seconds = started.elapsed().as_secs();
    soak.finish().await?;
    if soak.summary.is_clean() && arguments.work.is_none() {
        fs::remove_dir_all(&work)?;
    } else {
        eprintln!("soak: {} is kept", work.display());
    }
    Ok(soak.summary)
}

impl Soak {
    async fn prepare(arguments: &Arguments, seed: u64, work: PathBuf) -> io::Result<Self> {
        let mut proxy = ChaosProxy::bind(seed).await?;
        let forge = Forge::start_behind(proxy.addresses).await?;
        proxy.forward(forge.listening());
        forge.keep_log(false);
        forge.rate_limits(u64::MAX, u64::MAX);
        let content = Arc::new(Content::publish(&forge, seed));
        let program = MirrorProgram::new(&fs::canonicalize(&arguments.mirror)?, &work, &forge)?;
        let counts = Arc::<SoakCounts>::default();
        let address = watch::Sender::new(None);
        let mut dice = Dice::new(seed);
        for _ in 0..arguments.clients {
            let client = SoakClient::new(content.clone(), counts.clone(), dice.roll(u64::MAX));
            tokio::spawn(client.run(address.subscribe()));
        }
        let administration = Administration::start(program.clone(), counts.clone(), &address, dice.roll(u64::MAX));
        let summary = Summary::of_seed(seed);
        Ok(Self { forge, proxy, content, counts, program, address, administration, dice, moves: 0, summary })
    }

    async fn start(&mut self) -> io::Result<ServedMirror> {
        let program = self.program.clone();
        // The base of every second mirror is fixed: its lists have a gzip form.
        let has_public_url = self.summary.lives.is_multiple_of(2);
        self.summary.lives += 1;
        spawn_blocking(move || program.start(has_public_url)).await?
    }

    /// One life of the mirror, from its start to its end.
    async fn life(&mut self, until: Instant) -> io::Result<()> {
        let mut mirror = self.start().await?;
        let left = |most: Duration| most.min(until.saturating_duration_since(Instant::now()));
        if !self.summary.lives.is_multiple_of(LIVES_TO_QUIET) || left(Duration::MAX) < Duration::from_secs(8) {
            let load = Duration::from_millis(1_000 + self.dice.roll(5_000));
            self.load(&mut mirror, true, left(load)).await;
            self.summary.kills += 1;
            spawn_blocking(move || mirror.kill()).await??;
            self.address.send_replace(None);
            return Ok(());
        }
        self.load(&mut mirror, false, left(Duration::from_secs(3))).await;
        let before = self.quiet(&mirror, None).await;
        self.load(&mut mirror, true, left(Duration::from_secs(8))).await;
        let after = self.quiet(&mirror, Some(&before)).await;
        self.summary.quiet_phases += 1;
        self.summary.descriptors = Some((before, after));
        self.stop(mirror).await
    }

    /// Lets the clients visit the mirror for a time, takes samples, and publishes moving versions.
    async fn load(&mut self, mirror: &mut ServedMirror, rough: bool, time: Duration) {
        self.proxy.set_rough(rough);
        self.address.send_replace(Some(mirror.address));
        let until = Instant::now() + time;
        let mut ticks = 0;
        while Instant::now() < until {
            sleep(TICK.min(until.saturating_duration_since(Instant::now()))).await;
            ticks += 1;
            if ticks % 10 == 0 {
                self.moves += 1;
                self.content.move_on(&self.forge, self.moves);
            }
            if !mirror.is_running() {
                self.counts.violation("the mirror ended by itself".to_owned());
                return;
            }
            self.sample(mirror.pid()).await;
        }
    }

    async fn sample(&mut self, pid: u32) {
        let dir = self.program.cache_dir();
        // A file that is renamed during a walk may be counted twice: the least of three walks counts.
        let walks = move || {
            let mut least = space(&dir);
            for _ in 0..2 {
                if least > DISK_LIMIT {
                    least = least.min(space(&dir));
                }
            }
            least
        };
        let on_disk = spawn_blocking(walks).await.unwrap_or(0);
        self.summary.peak_disk = self.summary.peak_disk.max(on_disk);
        if on_disk > DISK_LIMIT {
            self.counts.violation(format!("{on_disk} bytes on disk, more than disk.limit {DISK_LIMIT}"));
        }
        let quarantined = count_files(&self.program.cache_dir().join("quarantine"));
        if quarantined > 0 {
            self.counts.violation(format!("{quarantined} files in quarantine"));
        }
        let memory = anonymous_memory(pid).unwrap_or(0);
        self.summary.peak_memory = self.summary.peak_memory.max(memory);
        if memory > MEMORY_LIMIT + MEMORY_REST {
            self.counts.violation(format!("{memory} bytes of memory, {MEMORY_LIMIT} is memory.limit"));
        }
        let open = Descriptors::of(pid).map_or(0, |open| open.count());
        self.summary.peak_descriptors = self.summary.peak_descriptors.max(open);
    }

    /// Waits until the mirror, without clients and undisturbed, has closed what it opened: no file of its spool, no file
    /// without a name, no socket and nothing else more than `before`, except idle zips.
    async fn quiet(&mut self, mirror: &ServedMirror, before: Option<&Descriptors>) -> Descriptors {
        self.address.send_replace(None);
        let _paused = self.administration.pause().await;
        self.proxy.set_rough(false);
        let until = Instant::now() + QUIET_TIMEOUT;
        let mut last = Descriptors::default();
        let mut unchanged = 0;
        let mut polls = 0;
        loop {
            let now = Descriptors::of(mirror.pid()).unwrap_or_default();
            let spooled = count_files(&self.program.cache_dir().join("spool"));
            unchanged = if now == last { unchanged + 1 } else { 0 };
            let is_back = before.is_none_or(|before| {
                let files = before.files + IDLE_FILES;
                now.sockets <= before.sockets && now.others <= before.others && now.files <= files
            });
            if unchanged >= 5 && is_back && now.deleted == 0 && spooled == 0 {
                return now;
            }
            if Instant::now() > until {
                let text = format!("not closed without clients: {now:?}, before {before:?}, {spooled} spooled files");
                self.counts.violation(text);
                return now;
            }
            last = now;
            polls += 1;
            if polls % 10 == 0 {
                // Ends idle connections to the forge that were opened by what was still under way.
                self.proxy.set_rough(false);
            }
            sleep(TICK).await;
        }
    }

    async fn stop(&mut self, mirror: ServedMirror) -> io::Result<()> {
        self.address.send_replace(None);
        let status = spawn_blocking(move || mirror.stop()).await??;
        if status.code() != Some(0) {
            self.counts.violation(format!("after SIGTERM the mirror ends with {status}"));
        }
        Ok(())
    }

    /// Undisturbed: every package answers, and nothing that is stored is damaged.
    async fn finish(&mut self) -> io::Result<()> {
        let mirror = self.start().await?;
        let before = self.quiet(&mirror, None).await;
        let paused = self.administration.pause().await;
        for missing in final_round::ask_all(mirror.address, &self.content).await {
            self.counts.violation(missing);
        }
        self.sample(mirror.pid()).await;
        let program = self.program.clone();
        let running = spawn_blocking(move || program.run(&["cache", "verify", "--no-fetch", "--json"])).await??;
        drop(paused);
        let after = self.quiet(&mirror, Some(&before)).await;
        self.summary.descriptors = Some((before, after));
        self.stop(mirror).await?;
        let program = self.program.clone();
        let alone = spawn_blocking(move || program.run(&["cache", "verify", "--no-fetch", "--json"])).await??;
        for end in [running, alone] {
            match count_damaged(&end) {
                Some(verified) => {
                    self.summary.verified = verified.zips;
                    self.summary.damaged += verified.damaged;
                }
                None => self.counts.violation(format!("cache verify: {} {}", end.status, end.out)),
            }
        }
        if self.summary.damaged > 0 {
            self.counts.violation(format!("cache verify: {} damaged", self.summary.damaged));
        }
        if self.program.log().contains("panicked") {
            self.counts.violation("the mirror panicked: see mirror.log".to_owned());
        }
        self.summary.disturbed = self.proxy.disturbed();
        self.summary.commands = self.administration.count();
        self.summary.take(&self.counts);
        Ok(())
    }
}
