//! The clients: each visits the mirror again and again, over either protocol, and compares what it gets.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{
    answers::{self, Miss},
    content::{Content, PublishedPackage, PublishedVersion},
    dice::Dice,
    line::{Line, Protocol, receive, receive_some},
    tally::{Ending, SoakCounts},
};

/// Most entity tags that a client remembers.
const MOST_TAGS: usize = 200;

/// One client.
pub(crate) struct SoakClient {
    content: Arc<Content>,
    counts: Arc<SoakCounts>,
    dice: Dice,
    /// The entity tags of lists, by path.
    entity_tags: BTreeMap<String, String>,
}

/// How a zip is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ZipVisit {
    Whole,
    Range,
    Head,
    Abort,
    Slow,
}

/// A request that did not end as it should, and why.
struct Missed(String, Miss);

impl SoakClient {
    pub(crate) fn new(content: Arc<Content>, counts: Arc<SoakCounts>, seed: u64) -> Self {
        Self { content, counts, dice: Dice::new(seed), entity_tags: BTreeMap::new() }
    }

    /// Visits the mirror while `address` has one. Leaves at once when the address changes.
    pub(crate) async fn run(mut self, mut address: watch::Receiver<Option<SocketAddr>>) {
        loop {
            let Ok(now) = address.wait_for(Option::is_some).await.map(|now| *now) else { return };
            let Some(now) = now else { continue };
            tokio::select! {
                changed = address.changed() => if changed.is_err() { return },
                () = self.visit(now) => {}
            }
        }
    }

    /// Opens a connection and sends some requests over it.
    async fn visit(&mut self, address: SocketAddr) {
        let protocol = if self.dice.roll(3) == 0 { Protocol::Http2 } else { Protocol::Http1 };
        let is_slow = self.dice.roll(8) == 0;
        let Ok(mut line) = Line::open(address, protocol, is_slow.then_some(8 << 10)).await else {
            self.counts.add(Ending::Broken);
            tokio::time::sleep(Duration::from_millis(20)).await;
            return;
        };
        for _ in 0..=self.dice.roll(8) {
            let ended = match self.dice.roll(20) {
                0..5 => self.list(&mut line).await,
                5 | 6 => self.unknown(&mut line).await,
                7 => self.health(&mut line).await,
                8..11 => self.flat(&mut line).await,
                _ if is_slow => self.zip(&mut line, ZipVisit::Slow).await,
                11..14 => self.zip(&mut line, ZipVisit::Whole).await,
                14..17 => self.zip(&mut line, ZipVisit::Range).await,
                17 => self.zip(&mut line, ZipVisit::Head).await,
                _ => self.zip(&mut line, ZipVisit::Abort).await,
            };
            let ending = match ended {
                Ok(ending) | Err(Missed(_, Miss::Ended(ending))) => ending,
                Err(Missed(asked, Miss::Wrong(why))) => {
                    self.counts.wrong(&format!("{protocol:?} {asked}: {why}"));
                    return;
                }
            };
            self.counts.add(ending);
            if matches!(ending, Ending::Broken | Ending::Aborted) {
                return;
            }
        }
    }

    fn package(&mut self) -> usize {
        let count = self.content.packages.len() as u64;
        usize::try_from(self.dice.roll(count)).unwrap_or(0)
    }

    /// A version of a package; of a long list mostly one of the first.
    fn version(&mut self, package: &PublishedPackage) -> usize {
        let count = package.versions.len() as u64;
        let most = if self.dice.roll(3) == 0 { count } else { count.min(4) };
        usize::try_from(self.dice.roll(most)).unwrap_or(0)
    }

    async fn list(&mut self, line: &mut Line) -> Result<Ending, Missed> {
        let content = self.content.clone();
        let package = &content.packages[self.package()];
        let version = &package.versions[self.version(package)];
        let mut path = format!("{}{}", package.tags, version.tag);
        let mut expected = answers::Listed::One(&version.tag);
        if !package.lists.is_empty() && self.dice.roll(4) > 0 {
            let which = self.dice.roll(package.lists.len() as u64);
            path.clone_from(&package.lists[usize::try_from(which).unwrap_or(0)]);
            expected = answers::Listed::All(package);
            if package.has_pages && self.dice.roll(2) == 0 {
                let size = 1 + self.dice.roll(50);
                let page = 1 + self.dice.roll(8);
                path = format!("{path}?per_page={size}&page={page}");
                expected = answers::Listed::Page { package, size, page };
            }
        }
        let mut fields = Vec::new();
        if self.dice.roll(2) == 0 {
            fields.push(("accept-encoding", "gzip".to_owned()));
        }
        let known = self.entity_tags.get(&path).filter(|_| self.dice.roll(2) == 0);
        fields.extend(known.map(|tag| ("if-none-match", tag.clone())));
        let method = if self.dice.roll(6) == 0 { "HEAD" } else { "GET" };
        let missed = |miss: Miss| Missed(format!("{method} {path} {fields:?}"), miss);
        let answer = line.ask(method, &path, &fields).await.map_err(|none| missed(none.into()))?;
        let status = answer.status().as_u16();
        let headers = answer.headers().clone();
        let body = receive(answer.into_body(), Duration::ZERO).await.map_err(|none| missed(none.into()))?;
        let ending = answers::list(status, &headers, &body, method == "HEAD", &expected).map_err(missed)?;
        if let Some(tag) = headers.get("etag").and_then(|tag| tag.to_str().ok()) {
            if self.entity_tags.len() >= MOST_TAGS {
                self.entity_tags.clear();
            }
            self.entity_tags.insert(path, tag.to_owned());
        }
        Ok(ending)
    }

    async fn unknown(&mut self, line: &mut Line) -> Result<Ending, Missed> {
        let number = self.dice.roll(1000);
        let path = match self.dice.roll(5) {
            0 => format!("/soak/p0/zipball/v9.{number}.0"),
            1 => format!("/soak/missing{number}/releases"),
            2 => format!("/v3/packages/missing{number}/release/latest"),
            3 => format!("/soak/p1/flat/v9.{number}.0"),
            _ => format!("/gitee/soak/g0/releases/tags/v9.{number}.0"),
        };
        let missed = |miss: Miss| Missed(path.clone(), miss);
        let answer = line.ask("GET", &path, &[]).await.map_err(|none| missed(none.into()))?;
        let status = answer.status().as_u16();
        receive(answer.into_body(), Duration::ZERO).await.map_err(|none| missed(none.into()))?;
        match status {
            404 => Ok(Ending::Unknown),
            502..=504 => Ok(Ending::Unavailable),
            _ => Err(missed(Miss::Wrong(format!("status {status}")))),
        }
    }

    async fn health(&mut self, line: &mut Line) -> Result<Ending, Missed> {
        let path = ["/healthz", "/readyz"][usize::try_from(self.dice.roll(2)).unwrap_or(0)];
        let missed = |miss: Miss| Missed(path.to_owned(), miss);
        let answer = line.ask("GET", path, &[]).await.map_err(|none| missed(none.into()))?;
        let status = answer.status().as_u16();
        receive(answer.into_body(), Duration::ZERO).await.map_err(|none| missed(none.into()))?;
        let is_right = status == 200 || path == "/readyz" && status == 503;
        if is_right { Ok(Ending::Whole) } else { Err(missed(Miss::Wrong(format!("status {status}")))) }
    }

    async fn flat(&mut self, line: &mut Line) -> Result<Ending, Missed> {
        let content = self.content.clone();
        let with_flats = content.packages.iter().filter(|package| package.flats.is_some()).count() as u64;
        let which = usize::try_from(self.dice.roll(with_flats)).unwrap_or(0);
        let Some(package) = content.packages.iter().filter(|package| package.flats.is_some()).nth(which) else {
            return Ok(Ending::Aborted);
        };
        let version = &package.versions[self.version(package)];
        let path = format!("{}{}", package.flats.as_deref().unwrap_or_default(), version.tag);
        match version.flat().filter(|_| self.dice.roll(2) == 0) {
            Some(flat) => self.range(line, &path, flat.len() as u64, |part| part.is_in(&flat)).await,
            None => self.whole(line, &path, Duration::ZERO, |body| version.accepts_flat(body)).await,
        }
    }

    async fn zip(&mut self, line: &mut Line, visit: ZipVisit) -> Result<Ending, Missed> {
        let content = self.content.clone();
        let package = &content.packages[self.package()];
        let version: &PublishedVersion = &package.versions[self.version(package)];
        let path = format!("{}{}", package.zips, version.tag);
        let is_right = |body: &bytes::Bytes| version.any_zip(|zip| zip == body);
        match visit {
            ZipVisit::Whole => self.whole(line, &path, Duration::ZERO, is_right).await,
            ZipVisit::Slow => {
                let pause = Duration::from_millis(self.dice.roll(30));
                self.whole(line, &path, pause, is_right).await
            }
            ZipVisit::Range => {
                self.range(line, &path, version.len(), |part| version.any_zip(|zip| part.is_in(zip))).await
            }
            ZipVisit::Head | ZipVisit::Abort => {
                let method = if visit == ZipVisit::Head { "HEAD" } else { "GET" };
                let missed = |miss: Miss| Missed(format!("{method} {path}"), miss);
                let answer = line.ask(method, &path, &[]).await.map_err(|none| missed(none.into()))?;
                answers::zip_head(answer.status().as_u16(), answer.headers(), version).map_err(missed)?;
                if visit == ZipVisit::Head {
                    return Ok(Ending::Head);
                }
                let some = self.dice.roll(version.len().max(1));
                receive_some(answer.into_body(), some).await.map_err(|none| missed(none.into()))?;
                Ok(Ending::Aborted)
            }
        }
    }

    async fn whole(
        &mut self,
        line: &mut Line,
        path: &str,
        pause: Duration,
        is_right: impl Fn(&bytes::Bytes) -> bool,
    ) -> Result<Ending, Missed> {
        let missed = |miss: Miss| Missed(path.to_owned(), miss);
        let answer = line.ask("GET", path, &[]).await.map_err(|none| missed(none.into()))?;
        let status = answer.status().as_u16();
        let body = receive(answer.into_body(), pause).await.map_err(|none| missed(none.into()))?;
        match status {
            200 if is_right(&body) => Ok(Ending::Whole),
            502..=504 => Ok(Ending::Unavailable),
            _ => Err(missed(Miss::Wrong(format!("status {status}, {} bytes", body.len())))),
        }
    }

    async fn range(
        &mut self,
        line: &mut Line,
        path: &str,
        len: u64,
        is_right: impl Fn(&answers::Part) -> bool,
    ) -> Result<Ending, Missed> {
        let first = self.dice.roll(len.max(1));
        let kind = self.dice.roll(6);
        let range = match kind {
            0 => format!("bytes={first}-"),
            1 => format!("bytes=-{}", 1 + first),
            2 => format!("bytes={}-", len + 1_000_000 + first),
            _ => format!("bytes={first}-{}", first + self.dice.roll(200_000)),
        };
        let missed = |miss: Miss| Missed(format!("{path} {range}"), miss);
        let fields = [("range", range.clone())];
        let answer = line.ask("GET", path, &fields).await.map_err(|none| missed(none.into()))?;
        let status = answer.status().as_u16();
        let headers = answer.headers().clone();
        let body = receive(answer.into_body(), Duration::ZERO).await.map_err(|none| missed(none.into()))?;
        if status == 416 && kind != 2 && !path.ends_with("/dev") {
            return Err(missed(Miss::Wrong("416 for a range in the zip".to_owned())));
        }
        answers::range(status, &headers, body, &is_right).map_err(missed)
    }
}
