//! What the forge holds: repositories with releases, tags, branches and the commits they ever pointed at.

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

/// 2024-01-01T00:00:00Z; every release is an hour younger than the one before.
const EPOCH: i64 = 1_704_067_200;

/// The files of one commit.
#[derive(Debug)]
pub struct Tree {
    pub commit: String,
    pub mtime: i64,
    spec: Spec,
    archives: Mutex<HashMap<String, Arc<Archive>>>,
}

impl Tree {
    fn new(repo_id: u64, mtime: i64, spec: Spec) -> Arc<Self> {
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

    fn same_zip(&self, other: &Self) -> bool {
        let (a, b) = (&self.spec, &other.spec);
        self.commit == other.commit && a.packing == b.packing && a.raw_zip == b.raw_zip
    }

    /// The zip of this tree below the folder `top`; made once.
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

/// What a name in a request means.
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
    tags: BTreeMap<String, Arc<Tree>>,
    branches: BTreeMap<String, Arc<Tree>>,
    commits: HashMap<String, Arc<Tree>>,
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

    /// Finds what `name` means: `refs/tags/…`, `refs/heads/…`, a commit, or a bare tag or branch.
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

    /// What GitHub calls latest: the marked release, else the youngest that is neither draft nor prerelease.
    pub fn latest(&self) -> Option<&Release> {
        let stable = |release: &&Release| !release.spec.draft && !release.spec.prerelease;
        let marked = self.latest.as_ref().and_then(|tag| self.release(tag)).filter(stable);
        marked.or_else(|| self.releases.iter().filter(stable).max_by_key(|release| release.created_at))
    }

    fn point(&mut self, tree: Arc<Tree>) -> Arc<Tree> {
        self.commits.insert(tree.commit.clone(), tree.clone());
        tree
    }

    fn put_tag(&mut self, name: &str, tree: Arc<Tree>) {
        let tree = self.point(tree);
        self.tags.insert(name.to_owned(), tree);
    }
}

/// The repositories of one forge.
#[derive(Debug, Default)]
pub struct Store {
    repos: Vec<Arc<Repo>>,
    ticks: i64,
}

/// What a repository name leads to.
pub enum Found<'a> {
    Repo(&'a Arc<Repo>),
    /// The name is an old one; the repository has this id.
    Moved(u64),
    Missing,
}

impl Store {
    fn tick(&mut self) -> i64 {
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

    fn ensure(&mut self, full_name: &str) -> u64 {
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

/// A handle on one repository; every change is seen by the next request.
#[derive(Clone)]
pub struct RepoRef {
    store: Arc<Mutex<Store>>,
    id: u64,
    gitee: bool,
}

impl RepoRef {
    pub(super) fn open(store: &Arc<Mutex<Store>>, full_name: &str, gitee: bool) -> Self {
        let id = store.lock().unwrap().ensure(full_name);
        Self { store: store.clone(), id, gitee }
    }

    fn change(self, change: impl FnOnce(&mut Repo, i64)) -> Self {
        let mut store = self.store.lock().unwrap();
        let now = store.tick();
        if let Some(repo) = store.repos.iter_mut().find(|repo| repo.id == self.id) {
            // Requests being answered keep the old state.
            change(Arc::make_mut(repo), now);
        }
        drop(store);
        self
    }

    fn read<T>(&self, read: impl FnOnce(&Repo) -> T) -> T {
        let store = self.store.lock().unwrap();
        read(store.by_id(self.id).expect("the repository was removed"))
    }

    /// Publishes a release with its tag, as the newest. A tag that has a release already keeps its place and id.
    pub fn release(self, tag: &str, make: impl FnOnce(Spec) -> Spec) -> Self {
        let spec = make(Spec::of_tag(tag));
        self.put_release(tag, spec)
    }

    /// Changes a release: its notes, its marks, or (by changing files) what its tag points at.
    pub fn edit_release(self, tag: &str, make: impl FnOnce(Spec) -> Spec) -> Self {
        let spec = self.read(|repo| repo.release(tag).expect("no such release").spec.clone());
        self.put_release(tag, make(spec))
    }

    fn put_release(self, tag: &str, spec: Spec) -> Self {
        self.change(|repo, now| {
            let old = repo.release(tag).map(|old| (old.id, old.created_at));
            let created_at = spec.created_at.or(old.map(|old| old.1)).unwrap_or(now);
            let published_at = spec.published_at.unwrap_or(created_at + 60);
            let updated_at = now.max(published_at);
            let id = old.map_or(now as u64, |old| old.0);
            if !spec.draft {
                let tree = Tree::new(repo.id, created_at, spec.clone());
                // Changed notes leave the tag, and so the zip's time stamps, alone.
                if repo.tags.get(tag).is_none_or(|old| !old.same_zip(&tree)) {
                    repo.put_tag(tag, tree);
                }
            }
            let release = Release { id, tag: tag.to_owned(), spec, created_at, published_at, updated_at };
            match repo.releases.iter_mut().find(|old| old.tag == tag) {
                Some(old) => *old = release,
                None => repo.releases.push(release),
            }
        })
    }

    /// Takes the release away and leaves the tag.
    pub fn delete_release(self, tag: &str) -> Self {
        self.change(|repo, _| repo.releases.retain(|release| release.tag != tag))
    }

    /// Marks a release as latest (`make_latest`).
    pub fn make_latest(self, tag: &str) -> Self {
        self.change(|repo, _| repo.latest = Some(tag.to_owned()))
    }

    /// A git tag without a release.
    pub fn tag_only(self, tag: &str) -> Self {
        self.tag(tag, |spec| spec)
    }

    /// Makes a tag or points it at these files; what its release says stays.
    pub fn tag(self, tag: &str, make: impl FnOnce(Spec) -> Spec) -> Self {
        let spec = make(Spec::of_tag(tag));
        self.change(|repo, now| {
            if let Some(release) = repo.releases.iter_mut().find(|release| release.tag == tag) {
                release.spec.take_tree(&spec);
            }
            repo.put_tag(tag, Tree::new(repo.id, spec.created_at.unwrap_or(now), spec));
        })
    }

    /// Takes a tag away, with its release.
    pub fn delete_tag(self, tag: &str) -> Self {
        self.change(|repo, _| {
            repo.tags.remove(tag);
            repo.releases.retain(|release| release.tag != tag);
        })
    }

    /// Packs a tag's zip anew: the same commit and files, other bytes.
    pub fn repack(self, tag: &str) -> Self {
        self.change(|repo, _| {
            let old = repo.tags.get(tag).expect("no such tag").clone();
            let mut spec = old.spec.clone();
            spec.packing.repacked = !spec.packing.repacked;
            spec.packing.level = if spec.packing.level == 6 { 1 } else { 6 };
            if let Some(release) = repo.releases.iter_mut().find(|release| release.tag == tag) {
                release.spec.take_tree(&spec);
            }
            repo.put_tag(tag, Tree::new(repo.id, old.mtime, spec));
        })
    }

    /// Makes a branch, or moves it.
    pub fn branch(self, name: &str, make: impl FnOnce(Spec) -> Spec) -> Self {
        let spec = make(Spec::default());
        self.change(|repo, now| {
            let tree = repo.point(Tree::new(repo.id, spec.created_at.unwrap_or(now), spec));
            repo.branches.insert(name.to_owned(), tree);
        })
    }

    pub fn delete_branch(self, name: &str) -> Self {
        self.change(|repo, _| drop(repo.branches.remove(name)))
    }

    pub fn default_branch(self, name: &str) -> Self {
        self.change(|repo, _| {
            if let Some(tree) = repo.branches.remove(&repo.default_branch) {
                repo.branches.entry(name.to_owned()).or_insert(tree);
            }
            name.clone_into(&mut repo.default_branch);
        })
    }

    pub fn private(self) -> Self {
        self.change(|repo, _| repo.private = true)
    }

    pub fn public(self) -> Self {
        self.change(|repo, _| repo.private = false)
    }

    /// A legal block: 451 on GitHub.
    pub fn blocked(self) -> Self {
        self.change(|repo, _| repo.blocked = true)
    }

    /// The old name answers 301 to `/repositories/{id}` from now on.
    pub fn renamed_to(self, full_name: &str) -> Self {
        self.change(|repo, _| {
            let old = std::mem::replace(&mut repo.full_name, full_name.to_owned());
            repo.old_names.push(old);
        })
    }

    /// Takes the repository away altogether; the handle is dead afterwards.
    pub fn remove(self) {
        self.store.lock().unwrap().repos.retain(|repo| repo.id != self.id);
    }

    /// The number in `/repositories/{id}`.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The 40-hex commit a tag, branch or commit means.
    pub fn commit(&self, reference: &str) -> String {
        self.read(|repo| repo.resolve(reference).tree().expect("no such ref").commit.clone())
    }

    /// The zip that this forge sends for a tag, branch or commit.
    pub fn archive(&self, reference: &str) -> Arc<Archive> {
        let (tree, top) = self.read(|repo| {
            let tree = repo.resolve(reference).tree().expect("no such ref").clone();
            let top = if self.gitee { gitee_top(repo, reference) } else { repo.github_top(&tree) };
            (tree, top)
        });
        tree.archive(&top)
    }

    pub fn zip_bytes(&self, reference: &str) -> Bytes {
        self.archive(reference).bytes()
    }

    /// SHA-256 of the zip, lower-case hexadecimal.
    pub fn sha256(&self, reference: &str) -> String {
        self.archive(reference).sha256().to_owned()
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

/// Reads RFC 3339 into seconds since 1970.
pub fn seconds(text: &str) -> i64 {
    text.parse::<jiff::Timestamp>().expect("an RFC 3339 time").as_second()
}

impl File {
    pub fn plain(data: impl Into<Bytes>) -> Self {
        Self { mode: 0o100_644, data: Data::Bytes(data.into()) }
    }
}
