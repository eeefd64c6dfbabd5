//! The handle with which tests create and change a repository.

use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::{
    model::{Release, Repo, Store, Tree, gitee_top},
    pack::Archive,
    spec::Spec,
};

/// A handle to one repository. The next request sees every change.
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

    /// Publishes a release with its tag, as the newest. An existing release of that tag keeps its position and id.
    pub fn release(self, tag: &str, make: impl FnOnce(Spec) -> Spec) -> Self {
        let spec = make(Spec::of_tag(tag));
        self.put_release(tag, spec)
    }

    /// Publishes a release that is listed after all others: GitHub orders them by the date of their commit.
    pub fn release_last(self, tag: &str, make: impl FnOnce(Spec) -> Spec) -> Self {
        self.release(tag, make).change(|repo, _| {
            if let Some(release) = repo.releases.pop() {
                repo.releases.insert(0, release);
            }
        })
    }

    /// Changes a release: its notes, its flags, or (by changed files) the commit of its tag.
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

    /// Deletes the release and keeps the tag.
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

    /// Creates a tag or moves it to these files; its release is unchanged.
    pub fn tag(self, tag: &str, make: impl FnOnce(Spec) -> Spec) -> Self {
        let spec = make(Spec::of_tag(tag));
        self.change(|repo, now| {
            if let Some(release) = repo.releases.iter_mut().find(|release| release.tag == tag) {
                release.spec.take_tree(&spec);
            }
            repo.put_tag(tag, Tree::new(repo.id, spec.created_at.unwrap_or(now), spec));
        })
    }

    /// Deletes a tag with its release.
    pub fn delete_tag(self, tag: &str) -> Self {
        self.change(|repo, _| {
            repo.tags.remove(tag);
            repo.releases.retain(|release| release.tag != tag);
        })
    }

    /// Repacks a tag's zip: the same commit and files, different bytes.
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

    /// Creates or moves a branch.
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

    /// Renames the repository: the old name redirects (301) to `/repositories/{id}`.
    pub fn renamed_to(self, full_name: &str) -> Self {
        self.change(|repo, _| {
            let old = std::mem::replace(&mut repo.full_name, full_name.to_owned());
            repo.old_names.push(old);
        })
    }

    /// Deletes the repository. The handle is unusable afterwards.
    pub fn remove(self) {
        self.store.lock().unwrap().repos.retain(|repo| repo.id != self.id);
    }

    /// The number in `/repositories/{id}`.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The commit (40 hexadecimal digits) of a tag, branch or commit.
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
