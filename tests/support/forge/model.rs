//! The content of the forge: repositories with releases, tags, branches, and all their past and present commits.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::{
    pack::{Archive, Data, File, hex, pack},
    spec::Spec,
};

/// 2024-01-01T00:00:00Z; every release is an hour later than the previous one.
const EPOCH: i64 = 1_704_067_200;

/// The files of one commit.
#[derive(Debug)]
pub struct Tree {
    pub commit: String,
    pub mtime: i64,
    pub spec: Spec,
    archives: Mutex<HashMap<String, Arc<Archive>>>,
}

impl Tree {
    pub fn new(repo_id: u64, mtime: i64, spec: Spec) -> Arc<Self> {
        let mut hasher = Sha256::new();
        hasher.update(repo_id.to_le_bytes());
        hasher.update(spec.salt.to_le_bytes());
        for (path, file) in &spec.files {
            hasher.update(path.as_bytes());
            hasher.update(file.mode.to_le_bytes());
            hasher.update(file.data.len().to_le_bytes());
            match &file.data {
                Data::Bytes(bytes) => hasher.update(bytes),
                Data::Noise(noise) => hasher.update(noise.seed.to_le_bytes()),
            }
        }
        let commit = hex(&hasher.finalize())[..40].to_owned();
        Arc::new(Self { commit, mtime, spec, archives: Mutex::default() })
    }

    pub fn same_zip(&self, other: &Self) -> bool {
        let a = &self.spec;
        let b = &other.spec;
        self.commit == other.commit && a.packing == b.packing && a.raw_zip == b.raw_zip
    }

    /// The zip of this tree below the folder `top`; built once.
    pub fn archive(&self, top: &str) -> Arc<Archive> {
        let mut archives = self.archives.lock().unwrap();
        let make = || match &self.spec.raw_zip {
            Some(bytes) => Arc::new(Archive::raw(bytes.clone())),
            None => pack(top, &self.commit, self.mtime, &self.spec.files, &self.spec.packing),
        };
        archives.entry(top.to_owned()).or_insert_with(make).clone()
    }
}

/// A release; times are seconds since 1970.
#[derive(Clone, Debug)]
pub struct Release {
    pub id: u64,
    pub tag: String,
    pub spec: Spec,
    pub created_at: i64,
    pub published_at: i64,
    pub updated_at: i64,
}

/// The meaning of a name in a request.
pub enum Reference {
    Tag(String, Arc<Tree>),
    Branch(String, Arc<Tree>),
    Commit(Arc<Tree>),
    Ambiguous,
    Missing,
}

impl Reference {
    pub fn tree(&self) -> Option<&Arc<Tree>> {
        match self {
            Self::Tag(_, tree) | Self::Branch(_, tree) | Self::Commit(tree) => Some(tree),
            Self::Ambiguous | Self::Missing => None,
        }
    }
}

/// One repository.
#[derive(Clone, Debug)]
pub struct Repo {
    pub id: u64,
    pub full_name: String,
    pub old_names: Vec<String>,
    pub private: bool,
    pub blocked: bool,
    pub default_branch: String,
    /// Oldest first.
    pub releases: Vec<Release>,
    pub latest: Option<String>,
    pub tags: BTreeMap<String, Arc<Tree>>,
    pub branches: BTreeMap<String, Arc<Tree>>,
    pub commits: HashMap<String, Arc<Tree>>,
}

impl Repo {
    pub fn owner(&self) -> &str {
        self.full_name.split_once('/').unwrap().0
    }

    pub fn name(&self) -> &str {
        self.full_name.split_once('/').unwrap().1
    }

    /// `owner-repo-sha7`, the top folder of GitHub's API archives.
    pub fn github_top(&self, tree: &Tree) -> String {
        format!("{}-{}-{}", self.owner(), self.name(), &tree.commit[..7])
    }

    /// Resolves `name`: `refs/tags/…`, `refs/heads/…`, a commit, or a bare tag or branch.
    pub fn resolve(&self, name: &str) -> Reference {
        let tag = |name: &str| self.tags.get(name).map(|tree| Reference::Tag(name.to_owned(), tree.clone()));
        let branch = |name: &str| self.branches.get(name).map(|tree| Reference::Branch(name.to_owned(), tree.clone()));
        if let Some(name) = name.strip_prefix("refs/tags/") {
            return tag(name).unwrap_or(Reference::Missing);
        }
        if let Some(name) = name.strip_prefix("refs/heads/") {
            return branch(name).unwrap_or(Reference::Missing);
        }
        if let Some(tree) = self.commits.get(name) {
            return Reference::Commit(tree.clone());
        }
        match (tag(name), branch(name)) {
            (Some(_), Some(_)) => Reference::Ambiguous,
            (Some(found), None) | (None, Some(found)) => found,
            (None, None) => Reference::Missing,
        }
    }

    pub fn release(&self, tag: &str) -> Option<&Release> {
        self.releases.iter().find(|release| release.tag == tag)
    }

    /// GitHub's latest release: the marked one, else the newest that is neither draft nor prerelease.
    pub fn latest(&self) -> Option<&Release> {
        let stable = |release: &&Release| !release.spec.draft && !release.spec.prerelease;
        let marked = self.latest.as_ref().and_then(|tag| self.release(tag)).filter(stable);
        marked.or_else(|| self.releases.iter().filter(stable).max_by_key(|release| release.created_at))
    }

    pub fn point(&mut self, tree: Arc<Tree>) -> Arc<Tree> {
        self.commits.insert(tree.commit.clone(), tree.clone());
        tree
    }

    pub fn put_tag(&mut self, name: &str, tree: Arc<Tree>) {
        let tree = self.point(tree);
        self.tags.insert(name.to_owned(), tree);
    }
}

/// The repositories of one forge.
#[derive(Debug, Default)]
pub struct Store {
    pub repos: Vec<Arc<Repo>>,
    ticks: i64,
}

/// The result of a repository lookup.
pub enum Found<'a> {
    Repo(&'a Arc<Repo>),
    /// An old name of the repository with this id.
    Moved(u64),
    Missing,
}

impl Store {
    pub fn tick(&mut self) -> i64 {
        self.ticks += 1;
        EPOCH + self.ticks * 3600
    }

    pub fn find(&self, full_name: &str) -> Found<'_> {
        let same = |name: &String| name.eq_ignore_ascii_case(full_name);
        if let Some(repo) = self.repos.iter().find(|repo| same(&repo.full_name)) {
            return Found::Repo(repo);
        }
        let moved = self.repos.iter().find(|repo| repo.old_names.iter().any(same));
        moved.map_or(Found::Missing, |repo| Found::Moved(repo.id))
    }

    pub fn by_id(&self, id: u64) -> Option<&Arc<Repo>> {
        self.repos.iter().find(|repo| repo.id == id)
    }

    pub fn ensure(&mut self, full_name: &str) -> u64 {
        assert_eq!(full_name.matches('/').count(), 1, "a repository is owner/name, not {full_name}");
        if let Found::Repo(repo) = self.find(full_name) {
            return repo.id;
        }
        let id = 700_000_001 + self.tick() as u64 % 1_000_000_007;
        let mut repo = Repo {
            id,
            full_name: full_name.to_owned(),
            old_names: Vec::new(),
            private: false,
            blocked: false,
            default_branch: "main".to_owned(),
            releases: Vec::new(),
            latest: None,
            tags: BTreeMap::new(),
            branches: BTreeMap::new(),
            commits: HashMap::new(),
        };
        let tree = Tree::new(id, EPOCH, Spec::default().file("README.md", format!("# {full_name}\n")));
        let tree = repo.point(tree);
        repo.branches.insert("main".to_owned(), tree);
        self.repos.push(Arc::new(repo));
        id
    }
}

/// `{repo}-{ref}`, the top folder of Gitee's archives; a slash becomes a hyphen.
pub fn gitee_top(repo: &Repo, reference: &str) -> String {
    let short = reference.trim_start_matches("refs/tags/").trim_start_matches("refs/heads/");
    format!("{}-{}", repo.name(), short.replace('/', "-"))
}

/// RFC 3339 in UTC with `Z`.
pub fn utc(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).unwrap().to_string()
}

/// RFC 3339 with `+08:00`, as Gitee writes it.
pub fn beijing(seconds: i64) -> String {
    let local = jiff::Timestamp::from_second(seconds + 8 * 3600).unwrap().to_string();
    local.replace('Z', "+08:00")
}

/// An HTTP date.
pub fn http_date(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).unwrap().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// Parses RFC 3339 to seconds since 1970.
pub fn seconds(text: &str) -> i64 {
    text.parse::<jiff::Timestamp>().expect("an RFC 3339 time").as_second()
}

impl File {
    pub fn plain(data: impl Into<Bytes>) -> Self {
        Self { mode: 0o100_644, data: Data::Bytes(data.into()) }
    }
}
