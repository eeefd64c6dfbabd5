use proptest::prelude::*;

use super::*;

/// One operation on the tier.
#[derive(Clone, Debug)]
enum Act {
    Spool(Option<u64>),
    Append(usize, usize),
    Admit(usize, u8),
    Abandon(usize),
    Hold(u8),
    Release(usize),
    Remove(u8),
    Document(u8, usize),
    Damage(u8),
    Pin(u8),
    Restart,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        3 => prop::option::of(0..3_000_000_u64).prop_map(Act::Spool),
        8 => (0..4_usize, 0..900_000_usize).prop_map(|(spool, len)| Act::Append(spool, len)),
        5 => (0..4_usize, 0..6_u8).prop_map(|(spool, key)| Act::Admit(spool, key)),
        1 => (0..4_usize).prop_map(Act::Abandon),
        3 => (0..6_u8).prop_map(Act::Hold),
        2 => (0..4_usize).prop_map(Act::Release),
        1 => (0..6_u8).prop_map(Act::Remove),
        1 => (0..3_u8, 0..500_000_usize).prop_map(|(key, len)| Act::Document(key, len)),
        1 => (0..6_u8).prop_map(Act::Damage),
        1 => (0..6_u8).prop_map(Act::Pin),
        1 => Just(Act::Restart),
    ];
    prop::collection::vec(act, 1..60)
}

/// The tier, and the spools and objects that are held.
struct World {
    rig: Option<Rig>,
    spools: Vec<(Spool, Vec<u8>)>,
    held: Vec<Object>,
    seed: u64,
}

impl World {
    async fn act(&mut self, act: Act) {
        let disk = Arc::clone(&self.rig.as_ref().expect("open").disk);
        match act {
            Act::Spool(expected) => self.spools.extend(disk.spool(expected).map(|spool| (spool, Vec::new()))),
            Act::Append(at, len) => {
                self.seed += 1;
                let bytes = body(self.seed, len);
                if let Some((spool, written)) = self.spools.get_mut(at) {
                    match spool.append(&[&bytes]) {
                        Ok(()) => written.extend(bytes),
                        Err(error) => {
                            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
                            self.spools.remove(at);
                        }
                    }
                }
            }
            Act::Admit(at, name) if at < self.spools.len() => {
                let (spool, bytes) = self.spools.remove(at);
                match disk.admit(&key(&name.to_string()), spool, meta(&bytes)).await {
                    Ok(object) => assert!(bytes_of(&object).await == bytes),
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::StorageFull),
                }
            }
            Act::Abandon(at) if at < self.spools.len() => drop(self.spools.remove(at)),
            Act::Release(at) if at < self.held.len() => drop(self.held.remove(at)),
            Act::Hold(name) => self.held.extend(get(&disk, &name.to_string()).await),
            Act::Remove(name) => disk.remove(&key(&name.to_string())).await.expect("removed"),
            Act::Document(name, len) => {
                self.seed += 1;
                let document = super::documents::document(&body(self.seed, len));
                if let Err(error) = disk.documents().put(&key(&name.to_string()), &document).await {
                    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
                }
            }
            Act::Damage(name) => {
                if let Some(object) = get(&disk, &name.to_string()).await {
                    disk.repair.quarantine(&object.meta.digest, "damaged by a test", || Ok(true)).expect("quarantined");
                }
            }
            Act::Pin(name) => {
                let name = name.to_string();
                let bytes = body(1, 1);
                let pin = Pin {
                    key: key(&name),
                    digest: Digest::of(&bytes),
                    len: 1,
                    first_seen: Timestamp::UNIX_EPOCH,
                    verified: verified(&bytes),
                };
                record(&disk, &pin, PinEvent::Pin).await;
            }
            Act::Restart => {
                drop(disk);
                self.spools.clear();
                self.held.clear();
                let rig = self.rig.take().expect("open");
                self.seed += 1;
                self.rig = Some(if self.seed.is_multiple_of(2) { rig.restart().await } else { rig.crash() });
            }
            _ => {}
        }
    }

    async fn check(&self) {
        let rig = self.rig.as_ref().expect("open");
        let usage = rig.disk.usage();
        assert!(usage.bytes <= usage.limit, "over the limit: {usage:?}");
        let reserved =
            |file: &blob::BlobFile| file.with_reservation(|held| held.as_ref().map_or(0, budget::Reservation::bytes));
        let spools: u64 = self.spools.iter().map(|(spool, _)| reserved(&spool.file())).sum();
        for (spool, _) in &self.spools {
            assert!(reserved(&spool.file()) >= spool.len(), "more is written than reserved");
        }
        // One file may be held several times.
        let mut lingering = std::collections::HashMap::new();
        for object in &self.held {
            if let ObjectContent::Disk(file) = &object.content {
                lingering.insert(Arc::as_ptr(file), reserved(file));
            }
            assert_eq!(Digest::of(&bytes_of(object).await), object.meta.digest, "a held object has changed");
        }
        let files = on_disk(&rig.disk, rig.dir.path());
        assert_eq!(usage.bytes, files + spools + lingering.values().sum::<u64>(), "{usage:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bytes_on_disk_equal_the_counter_and_never_exceed_the_limit(acts in acts()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let mut world = World { rig: Some(rig(8)), spools: Vec::new(), held: Vec::new(), seed: 0 };
            for act in acts {
                world.act(act).await;
                world.check().await;
            }
        });
    }
}
