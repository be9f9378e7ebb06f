//! Random steps against a map of what was written.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Reserve {
        file: u64,
        pages: Pages,
        class: Class,
        stream: bool,
    },
    /// Some of what a reservation is for, in bodies of this many bytes, perhaps cut short.
    Fill {
        which: usize,
        from: u64,
        count: u64,
        cut_bytes: usize,
        short_bytes: usize,
    },
    LetGo {
        which: usize,
    },
    Pin {
        file: u64,
        pages: Pages,
    },
    Unpin {
        which: usize,
    },
    Consume {
        file: u64,
        pages: Pages,
    },
    Evict {
        file: u64,
        pages: Pages,
    },
    Forget {
        file: u64,
    },
    External {
        mib: u64,
    },
    GiveBack {
        seconds: u64,
    },
}

fn steps() -> impl Strategy<Value = Step> {
    let file = 0u64..3;
    let pages = || {
        prop_oneof![
            3 => (0u64..1200, 1u64..20).prop_map(|(start, count)| Pages::new(start, start + count)),
            2 => (0u64..5, 0u64..100, 1u64..600).prop_map(|(group, by, count)| Pages::new(group * 256 + by, group * 256 + by + count)),
            1 => (0u64..5).prop_map(extent),
        ]
    };
    let class = prop_oneof![Just(Class::Demand), Just(Class::Readahead), Just(Class::Prefetch)];
    let which = || 0usize..8;
    prop_oneof![
        8 => (file.clone(), pages(), class, any::<bool>())
            .prop_map(|(file, pages, class, stream)| Step::Reserve { file, pages, class, stream }),
        8 => (which(), 0u64..600, 1u64..600, 1usize..70_000, 0usize..5000)
            .prop_map(|(which, from, count, cut_bytes, short_bytes)| Step::Fill { which, from, count, cut_bytes, short_bytes }),
        6 => which().prop_map(|which| Step::LetGo { which }),
        4 => (file.clone(), pages()).prop_map(|(file, pages)| Step::Pin { file, pages }),
        3 => which().prop_map(|which| Step::Unpin { which }),
        3 => (file.clone(), pages()).prop_map(|(file, pages)| Step::Consume { file, pages }),
        2 => (file.clone(), pages()).prop_map(|(file, pages)| Step::Evict { file, pages }),
        1 => file.prop_map(|file| Step::Forget { file }),
        1 => (0u64..8).prop_map(|mib| Step::External { mib }),
        1 => (0u64..10).prop_map(|seconds| Step::GiveBack { seconds }),
    ]
}

/// The pool, and which pages were made held and not reported as gone.
struct Model {
    pool: Pool,
    reservations: Vec<Reservation>,
    pins: Vec<Pinned>,
    held: std::collections::HashSet<(Inode, u64)>,
    now: Time,
}

const PAGES: Pages = Pages { start: 0, end: 2048 };

impl Model {
    fn step(&mut self, step: Step) {
        let pool = &self.pool;
        match step {
            Step::Reserve { file, pages, class, stream } => {
                let missing_bytes: u64 = pool.missing(Inode(file), pages).iter().map(|run| run.count() * 4096).sum();
                match pool.reserve(Inode(file), pages, class, stream) {
                    Ok(reservation) => {
                        let room = |page| reservation.filler(Pages::new(page, page + 1), SIZE_BYTES);
                        assert!(pages.iter().all(|page| room(page).position() == page * 4096));
                        self.reservations.push(reservation);
                    }
                    Err(full) => assert!(full.wanted_bytes <= missing_bytes),
                }
            }
            Step::Fill { which, from, count, cut_bytes, short_bytes } => {
                self.fill(which, from, count, cut_bytes, short_bytes)
            }
            Step::LetGo { which } if which < self.reservations.len() => drop(self.reservations.swap_remove(which)),
            Step::Pin { file, pages } => self.pins.extend(pool.pinned(Inode(file), pages)),
            Step::Unpin { which } if which < self.pins.len() => drop(self.pins.swap_remove(which)),
            Step::Consume { file, pages } => pool.mark_consumed(Inode(file), pages),
            Step::Evict { file, pages } => pool.evict(Inode(file), pages),
            Step::Forget { file } => {
                // As its owner does: nobody has it open any more.
                self.reservations.retain(|reservation| reservation.file() != Inode(file));
                pool.forget_file(Inode(file));
                self.held.retain(|(held, _)| *held != Inode(file));
            }
            Step::External { mib } => pool.set_external_bytes(mib * MIB),
            Step::GiveBack { seconds } => {
                self.now = self.now + std::time::Duration::from_secs(seconds);
                pool.give_back(self.now);
            }
            Step::LetGo { .. } | Step::Unpin { .. } => {}
        }
    }

    fn fill(&mut self, which: usize, from: u64, count: u64, cut_bytes: usize, short_bytes: usize) {
        let Some(reservation) = self.reservations.get(which) else { return };
        let start = reservation.pages().start + from % reservation.pages().count();
        let pages = Pages::new(start, (start + count).min(reservation.pages().end));
        let bytes = body(reservation.file(), pages, SIZE_BYTES);
        let bytes = &bytes[..bytes.len().saturating_sub(short_bytes)];
        let before = self.pool.missing(reservation.file(), pages);
        let mut filler = reservation.filler(pages, SIZE_BYTES);
        let mut arrived = Vec::new();
        bytes.chunks(cut_bytes).for_each(|bytes| filler.fill(bytes, |pages| arrived.extend(pages.iter())));
        let whole = Pages::new(pages.start, pages.start + bytes.len() as u64 / 4096);
        let expected: Vec<u64> = before.iter().flat_map(|run| run.intersect(whole).iter()).collect();
        assert_eq!(arrived, expected, "all that was missing and came whole, once");
        let copied = expected.len() * 4096 + filler.skipped_bytes() as usize;
        assert!((bytes.len().saturating_sub(4095)..=bytes.len()).contains(&copied));
        self.held.extend(arrived.into_iter().map(|page| (reservation.file(), page)));
    }

    fn check(&mut self) {
        let pool = &self.pool;
        pool.0.arena.check();
        assert!(pool.used_bytes() <= pool.limit_bytes());
        let mut dropped = Vec::new();
        pool.take_dropped(&mut dropped);
        for (file, pages) in dropped {
            for page in pages.iter() {
                assert!(self.held.remove(&(file, page)), "{page} of {file:?} was dropped but not held");
            }
        }
        for file in (0..3).map(Inode) {
            let missing: Vec<u64> = pool.missing(file, PAGES).iter().flat_map(|run| run.iter()).collect();
            let expected: Vec<u64> = PAGES.iter().filter(|page| !self.held.contains(&(file, *page))).collect();
            assert_eq!(missing, expected);
        }
        for pin in &self.pins {
            assert!(pin[..] == body(pin.file(), pin.pages(), SIZE_BYTES));
        }
        for reservation in &self.reservations {
            let pages = reservation.pages();
            let mut into = vec![0; pages.count() as usize * 4096];
            let held = pages.iter().all(|page| self.held.contains(&(reservation.file(), page)));
            assert_eq!(reservation.copy(pages, &mut into), held);
            assert!(!held || into == body(reservation.file(), pages, SIZE_BYTES));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_pool_is_a_map_that_forgets_only_what_it_says(steps in proptest::collection::vec(steps(), 1..60)) {
        let pool = pool_of(6);
        let (reservations, pins, held) = Default::default();
        let mut model = Model { pool, reservations, pins, held, now: Time(0) };
        for step in steps {
            model.step(step);
            model.check();
        }
        let Model { pool, reservations, pins, .. } = model;
        drop((reservations, pins));
        (0..3).for_each(|file| pool.evict(Inode(file), PAGES));
        prop_assert_eq!(pool.used_bytes(), 0);
        let arena = &pool.0.arena;
        let counters = [&arena.reserved_bytes, &arena.unread_bytes, &arena.idle_unread_bytes];
        prop_assert!(counters.iter().all(|counter| counter.load(Ordering::SeqCst) == 0));
        pool.set_external_bytes(0);
        prop_assert!(pool.reserve(FILE, Pages::new(0, 6 * 256), Class::Demand, true).is_ok());
    }
}
