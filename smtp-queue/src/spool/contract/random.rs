//! Any operations in any order have the effect that they have on the model: [`MemorySpool`].

use std::collections::BTreeMap;
use std::sync::Arc;

use smtp_core::Priority;

use super::samples::{at, diagnosis, id, octets};
use super::{SpoolUnderTest, World, message};
use crate::envelope::SiteName;
use crate::spool::{Change, Due, Lease, MemorySpool, NewMessage, Room, Spool, SpoolError};

/// How many sequences are tried.
pub(super) const SEEDS: u64 = 20;
/// How long each is.
const STEPS: u32 = 300;
const SITES: [&str; 4] = ["one", "two", "three", "four"];

/// The same leases in both spools: their tokens differ.
struct Pair {
    real: Lease,
    model: Lease,
}

struct Run<'a, U: SpoolUnderTest> {
    world: World<'a, U>,
    model: MemorySpool,
    leases: Vec<Pair>,
    rng: fastrand::Rng,
    next_number: u128,
    seed: u64,
}

pub(super) async fn operations_have_the_effect_that_they_have_on_the_model<U: SpoolUnderTest>(
    world: World<'_, U>,
    seed: u64,
) {
    let rng = fastrand::Rng::with_seed(seed);
    let mut run = Run { world, model: MemorySpool::new(), leases: Vec::new(), rng, next_number: 1, seed };
    for step in 0..STEPS {
        run.step().await;
        if step % 20 == 0 {
            run.compare().await;
        }
    }
    run.compare().await;
}

impl<U: SpoolUnderTest> Run<'_, U> {
    async fn step(&mut self) {
        match self.rng.u32(..100) {
            0..25 => self.put().await,
            25..50 => self.due().await,
            50..75 => self.record().await,
            75..82 => self.give_back().await,
            82..86 => self.remove().await,
            86..91 => self.hold().await,
            91..96 => self.reschedule().await,
            96..98 => self.compare().await,
            _ => self.reopen().await,
        }
    }

    fn message(&mut self) -> NewMessage {
        let number = self.next_number;
        self.next_number += 1;
        let from = self.rng.usize(..SITES.len());
        let count = 1 + self.rng.usize(..SITES.len() - from);
        let octets = self.rng.usize(..3000);
        let mut new = message(number, &SITES[from..from + count], octets);
        Arc::make_mut(&mut new.envelope).priority = priority(number);
        for place in 0..count {
            let seconds = self.rng.u64(..1000);
            let pair = &mut new.progress[place];
            pair.progress.next_attempt = at(seconds);
            pair.lease = self.rng.u32(..4) == 0;
        }
        new
    }

    async fn put(&mut self) {
        let new = self.message();
        let real = self.world.spool().put(new.clone()).await.expect("it is taken");
        let model = self.model.put(new).await.expect("it is taken");
        self.add(real, model);
    }

    fn add(&mut self, real: Vec<Lease>, model: Vec<Lease>) {
        assert_eq!(real.len(), model.len(), "seed {}", self.seed);
        for (real, model) in real.into_iter().zip(model) {
            assert_eq!((real.id, &real.site), (model.id, &model.site), "seed {}", self.seed);
            self.leases.push(Pair { real, model });
        }
    }

    async fn due(&mut self) {
        let site = SITES[self.rng.usize(..SITES.len())];
        let room = Room {
            // Which of two sites comes first is not said where both waited as long, so there is room for all.
            total: usize::MAX,
            others: self.rng.usize(..6),
            sites: [(SiteName::from(site), self.rng.usize(..4))].into(),
        };
        let now = at(self.rng.u64(..1200));
        let real = self.world.spool().due(now, &room).await.expect("it answers");
        let model = self.model.due(now, &room).await.expect("it answers");
        assert_eq!(real.next, model.next, "seed {}", self.seed);
        let by_site = |due: Due| {
            let mut sites = BTreeMap::<_, Vec<_>>::new();
            for lease in due.leases {
                sites.entry(lease.site.clone()).or_default().push(lease);
            }
            sites.into_values().flatten().collect()
        };
        self.add(by_site(real), by_site(model));
    }

    fn any_lease(&mut self) -> Option<Pair> {
        (!self.leases.is_empty()).then(|| self.leases.swap_remove(self.rng.usize(..self.leases.len())))
    }

    async fn record(&mut self) {
        let Some(pair) = self.any_lease() else { return };
        let loaded = self.model.load(&pair.model).await;
        let real = self.world.spool().load(&pair.real).await;
        let (envelope, mut progress) = match (loaded, real) {
            (Ok(model), Ok(real)) => {
                assert_eq!(real, model, "seed {}", self.seed);
                model
            }
            (Err(SpoolError::LeaseLost { .. }), Err(SpoolError::LeaseLost { .. })) => return,
            other => panic!("seed {}: {other:?}", self.seed),
        };
        assert_eq!(envelope.id, pair.model.id);
        progress.attempts += 1;
        progress.last_attempt = Some(at(self.rng.u64(..1000)));
        progress.next_attempt = at(self.rng.u64(..1000));
        progress.waiting[0].last = Some(diagnosis(format!("attempt {}", progress.attempts)));
        if self.rng.u32(..5) == 0 {
            progress.site = SITES[self.rng.usize(..SITES.len())].into();
        }
        let caused = if self.rng.u32(..4) == 0 { vec![self.message()] } else { Vec::new() };
        let caused: Vec<_> = caused.into_iter().map(without_leases).collect();
        let change = Change { progress: self.rng.bool().then_some(progress), caused };
        let real = self.world.spool().record(pair.real.clone(), change.clone()).await;
        let model = self.model.record(pair.model.clone(), change).await;
        match (real, model) {
            (Ok(()), Ok(())) => {}
            (Err(SpoolError::Invalid(_)), Err(SpoolError::Invalid(_))) => self.leases.push(pair),
            other => panic!("seed {}: {other:?}", self.seed),
        }
    }

    async fn give_back(&mut self) {
        let Some(pair) = self.any_lease() else { return };
        self.world.spool().give_back(pair.real).await;
        self.model.give_back(pair.model).await;
    }

    fn any_number(&mut self) -> u128 {
        self.rng.u128(1..=self.next_number)
    }

    async fn remove(&mut self) {
        let number = self.any_number();
        let real = self.world.spool().remove(id(number)).await.expect("it answers");
        assert_eq!(real, self.model.remove(id(number)).await.expect("it answers"), "seed {}", self.seed);
    }

    async fn hold(&mut self) {
        let (number, held) = (self.any_number(), self.rng.bool());
        let real = self.world.spool().set_held(id(number), held).await.expect("it answers");
        assert_eq!(real, self.model.set_held(id(number), held).await.expect("it answers"), "seed {}", self.seed);
    }

    async fn reschedule(&mut self) {
        let (number, time) = (self.any_number(), at(self.rng.u64(..1000)));
        let real = self.world.spool().reschedule(id(number), time).await.expect("it answers");
        assert_eq!(real, self.model.reschedule(id(number), time).await.expect("it answers"), "seed {}", self.seed);
    }

    async fn reopen(&mut self) {
        if self.world.reopen().await {
            self.model.reopen();
        } else {
            self.model = MemorySpool::new();
        }
        // Half of the leases stay with us, so that it is tried that they are lost.
        let kept = self.leases.len() / 2;
        self.leases.truncate(kept);
    }

    async fn compare(&mut self) {
        let spool = self.world.spool();
        assert_eq!(spool.totals(), self.model.totals(), "seed {}", self.seed);
        let real = spool.list(None, usize::MAX).await.expect("it answers");
        let mut model = self.model.list(None, usize::MAX).await.expect("it answers");
        for listed in &mut model {
            listed.pairs.sort_by(|a, b| a.site.cmp(&b.site));
        }
        let mut sorted = real.clone();
        for listed in &mut sorted {
            listed.pairs.sort_by(|a, b| a.site.cmp(&b.site));
        }
        assert_eq!(sorted, model, "seed {}", self.seed);
        for listed in real {
            let real = spool.show(listed.id).await.expect("it answers").expect("it was listed");
            let model = self.model.show(listed.id).await.expect("it answers").expect("it was listed");
            assert_eq!(real.envelope, model.envelope, "seed {}", self.seed);
            let sorted = |mut progress: Vec<crate::Progress>| {
                progress.sort_by(|a, b| a.site.cmp(&b.site));
                progress
            };
            assert_eq!(sorted(real.progress), sorted(model.progress), "seed {}", self.seed);
            let content = spool.content(listed.id).await.expect("it was listed");
            let expected = self.model.content(listed.id).await.expect("it was listed");
            assert_eq!(octets(&content), octets(&expected), "seed {}", self.seed);
        }
    }
}

/// Few, so that there are several of each; half of all are normal.
fn priority(number: u128) -> Priority {
    let number = i8::try_from(number % 8).expect("small") - 4;
    Priority::new(number.max(0) * 3 - i8::from(number == -4)).expect("of those that there are")
}

/// Who records an outcome does not work on what it causes.
fn without_leases(mut message: NewMessage) -> NewMessage {
    for new in &mut message.progress {
        new.lease = false;
    }
    message
}
