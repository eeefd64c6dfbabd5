//! The handle with which tests create and change a package of a registry.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    super::{pack::Archive, spec::Spec},
    Registry,
    model::{Description, Package, PackageKind, is_moving},
};

/// A handle to one package. The next request sees every change.
#[derive(Clone)]
pub struct PackageHandle {
    registry: Registry,
    name: String,
}

impl PackageHandle {
    pub(super) fn open(registry: &Registry, name: &str, kind: PackageKind) -> Self {
        registry.0.packages.lock().unwrap().ensure(name, kind);
        Self { registry: registry.clone(), name: name.to_owned() }
    }

    fn change(self, change: impl FnOnce(&mut Package, i64)) -> Self {
        let mut packages = self.registry.0.packages.lock().unwrap();
        let now = packages.tick();
        let package = packages.all.iter_mut().find(|package| package.name == self.name);
        change(package.expect("the package was removed"), now);
        drop(packages);
        self
    }

    fn read<T>(&self, read: impl FnOnce(&Package) -> T) -> T {
        let packages = self.registry.0.packages.lock().unwrap();
        read(packages.find(&self.name).expect("the package was removed"))
    }

    fn files(&self, version: &str) -> Spec {
        let mut spec = Spec::default().name(version).body(&format!("Notes of {version}"));
        spec.packing.level = 9;
        spec.packing.commit_comment = false;
        spec.packing.top_folder = self.registry.has_top_folders();
        self.read(|package| package.kind).files(spec, &self.name, version)
    }

    /// Publishes a version, as the newest, with the files that its kind needs: a built component runs in both CLIs and
    /// prints `{name} {version} deployed`.
    pub fn version(self, version: &str) -> Self {
        self.version_with(version, |spec| spec)
    }

    /// As [`PackageHandle::version`], with changed content.
    pub fn version_with(self, version: &str, make: impl FnOnce(Spec) -> Spec) -> Self {
        let spec = make(self.files(version));
        self.change(|package, now| package.publish(version, spec, now))
    }

    /// False for a version that was published before and is not moving.
    pub fn can_publish(&self, version: &str) -> bool {
        self.read(|package| package.can_publish(version))
    }

    /// Publishes a version without `dist/`: its entry is missing.
    pub fn unbuilt(self, version: &str) -> Self {
        self.version_with(version, Spec::unbuilt)
    }

    /// Publishes a moving version (`dev`, `dev.*`) again; `make` starts from the default files.
    pub fn republish(self, version: &str, make: impl FnOnce(Spec) -> Spec) -> Self {
        assert!(is_moving(version), "{version} cannot be published again");
        self.version_with(version, make)
    }

    /// Changes the content of any version, which a registry must not do: for tests of pins.
    pub fn replace(self, version: &str, make: impl FnOnce(Spec) -> Spec) -> Self {
        let spec = make(self.files(version));
        self.change(|package, now| package.replace(version, spec, now))
    }

    /// Deletes a version, which can then not be published again.
    pub fn remove_version(self, version: &str) -> Self {
        self.change(|package, _| package.versions.retain(|old| old.tag != version))
    }

    /// Sets the version that the registry calls latest.
    pub fn latest(self, version: &str) -> Self {
        self.change(|package, _| package.latest = Some(version.to_owned()))
    }

    /// Changes description, readme, providers, category, tags and the like.
    pub fn about(self, change: impl FnOnce(&mut Description)) -> Self {
        self.change(|package, _| change(&mut package.about))
    }

    /// Only callers with a valid signature see the package.
    pub fn make_private(self) -> Self {
        self.change(|package, _| package.private = true)
    }

    pub fn make_public(self) -> Self {
        self.change(|package, _| package.private = false)
    }

    /// Deletes the package. The handle is unusable afterwards.
    pub fn remove(self) {
        self.registry.0.packages.lock().unwrap().all.retain(|package| package.name != self.name);
    }

    /// The zip that this registry sends for a version.
    pub fn archive(&self, version: &str) -> Arc<Archive> {
        self.read(|package| package.archive(package.version(version).expect("no such version")))
    }

    pub fn zip_bytes(&self, version: &str) -> Bytes {
        self.archive(version).bytes()
    }

    /// SHA-256 of the zip, lower-case hexadecimal.
    pub fn sha256(&self, version: &str) -> String {
        self.archive(version).sha256().to_owned()
    }
}
