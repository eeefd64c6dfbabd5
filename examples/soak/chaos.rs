//! A TCP proxy between mirror and forge that delays, drips, resets, cuts and stalls connections by a seeded schedule.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::dice::Dice;

/// What happens to one connection. Offsets count the bytes of the forge.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    None,
    /// Reset before the first byte.
    Refuse,
    /// The first byte waits.
    Delay(Duration),
    /// Pieces of so many bytes, each after a pause.
    Drip(usize, Duration),
    /// Reset at this byte.
    ResetAt(usize),
    /// Closed at this byte.
    CutAt(usize),
    /// Silent from this byte on, and closed after a while.
    StallAt(usize, Duration),
}

impl Trouble {
    /// Half of the connections have none.
    fn roll(dice: &mut Dice) -> Self {
        let millis = |dice: &mut Dice, most| Duration::from_millis(dice.roll(most));
        // Most breaks are early: JSON is short.
        let offset = |dice: &mut Dice| {
            let most = [200, 2_000, 60_000, 3_000_000][usize::try_from(dice.roll(4)).unwrap_or(0)];
            usize::try_from(dice.roll(most)).unwrap_or(0)
        };
        match dice.roll(12) {
            0 => Self::Refuse,
            1 => Self::Delay(millis(dice, 1_500)),
            2 => Self::Drip(1024 + offset(dice) % 4096, millis(dice, 15)),
            3 => Self::ResetAt(offset(dice)),
            4 => Self::CutAt(offset(dice)),
            5 => Self::StallAt(offset(dice), Duration::from_secs(3)),
            _ => Self::None,
        }
    }
}

/// The proxy: six addresses, one for each host of the forge.
pub(crate) struct ChaosProxy {
    pub(crate) addresses: [SocketAddr; 6],
    listeners: Vec<TcpListener>,
    state: Arc<ProxyState>,
}

struct ProxyState {
    seed: u64,
    /// True while connections are disturbed. Each change ends all connections.
    rough: watch::Sender<bool>,
    accepted: AtomicU64,
    disturbed: AtomicU64,
}

impl ChaosProxy {
    /// Listens on free ports, calm.
    pub(crate) async fn bind(seed: u64) -> io::Result<Self> {
        let mut addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); 6];
        let mut listeners = Vec::new();
        for address in &mut addresses {
            let listener = TcpListener::bind(*address).await?;
            *address = listener.local_addr()?;
            listeners.push(listener);
        }
        let rough = watch::Sender::new(false);
        let state = ProxyState { seed, rough, accepted: AtomicU64::new(0), disturbed: AtomicU64::new(0) };
        Ok(Self { addresses, listeners, state: Arc::new(state) })
    }

    /// Forwards each address to its target.
    pub(crate) fn forward(&mut self, targets: [SocketAddr; 6]) {
        for (listener, target) in self.listeners.drain(..).zip(targets) {
            tokio::spawn(accept(listener, target, self.state.clone()));
        }
    }

    /// Begins or ends the disturbance.
    pub(crate) fn set_rough(&self, rough: bool) {
        self.state.rough.send_replace(rough);
    }

    /// Number of connections that something happened to.
    pub(crate) fn disturbed(&self) -> u64 {
        self.state.disturbed.load(Relaxed)
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, state: Arc<ProxyState>) {
    loop {
        // An accept that fails (no descriptors) must not spin.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let number = state.accepted.fetch_add(1, Relaxed);
        let mut rough = state.rough.subscribe();
        let mut trouble = Trouble::None;
        if *rough.borrow_and_update() {
            trouble =
                Trouble::roll(&mut Dice::new(state.seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15))));
        }
        if !matches!(trouble, Trouble::None) {
            state.disturbed.fetch_add(1, Relaxed);
        }
        tokio::spawn(async move {
            tokio::select! {
                _ = rough.changed() => {}
                _ = relay(stream, target, trouble) => {}
            }
        });
    }
}

/// Closes with a reset in place of an end.
fn reset(stream: &TcpStream) {
    let _ = rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO));
}

async fn relay(mut mirror: TcpStream, target: SocketAddr, trouble: Trouble) -> io::Result<()> {
    if let Trouble::Refuse = trouble {
        reset(&mirror);
        return Ok(());
    }
    let mut forge = TcpStream::connect(target).await?;
    mirror.set_nodelay(true)?;
    forge.set_nodelay(true)?;
    let (mut from_forge, mut to_forge) = forge.split();
    let (mut from_mirror, mut to_mirror) = mirror.split();
    let requests = async {
        tokio::io::copy(&mut from_mirror, &mut to_forge).await?;
        to_forge.shutdown().await
    };
    let answers = async {
        let mut buffer = vec![0; 16 << 10];
        let mut sent = 0;
        loop {
            let room = match trouble {
                Trouble::Drip(bytes, _) => bytes,
                Trouble::ResetAt(end) | Trouble::CutAt(end) | Trouble::StallAt(end, _) => end.saturating_sub(sent),
                _ => buffer.len(),
            };
            if room == 0 {
                return Ok(());
            }
            let most = room.min(buffer.len());
            let read = from_forge.read(&mut buffer[..most]).await?;
            if read == 0 {
                return to_mirror.shutdown().await;
            }
            match trouble {
                Trouble::Delay(pause) if sent == 0 => tokio::time::sleep(pause).await,
                Trouble::Drip(_, pause) => tokio::time::sleep(pause).await,
                _ => {}
            }
            to_mirror.write_all(&buffer[..read]).await?;
            sent += read;
        }
    };
    // An answer that has ended ends the connection; requests that have ended do not.
    let done: io::Result<()> = tokio::select! {
        done = answers => done,
        Err(error) = requests => Err(error),
    };
    match trouble {
        Trouble::ResetAt(_) => reset(&mirror),
        Trouble::StallAt(_, pause) => tokio::time::sleep(pause).await,
        _ => {}
    }
    done
}
