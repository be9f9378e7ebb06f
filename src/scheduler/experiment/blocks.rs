//! Whose turn the next slice is.

use super::shares::{Arm, Shares};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Blocks of slices in which each arm has exactly its share, in an order that is drawn for each block: the slices of an
/// arm stand as far from each other as they can, from a place on that is drawn (systematic sampling), and then all of it is
/// turned by a number of places that is drawn too.
///
/// So an arm has each place of a block as often as another has, in proportion: the difference of two arms in one block is
/// 0 in the mean where they are alike, however the load goes. And as a load that is heavy for a minute meets all of them, it
/// varies little.
#[derive(Debug)]
pub(super) struct Blocks {
    rng: StdRng,
    block: Vec<Arm>,
    /// How many slices of the block were given.
    given: usize,
    /// The number of the block, from 0 on.
    number: u64,
}

impl Blocks {
    pub(super) fn new(shares: &Shares, seed: u64) -> Blocks {
        let mut rng = StdRng::seed_from_u64(seed);
        let block = draw(&shares.block(), &mut rng);
        Blocks { rng, block, given: 0, number: 0 }
    }

    /// The arm of the next slice, and the number of its block.
    pub(super) fn next(&mut self) -> (Arm, u64) {
        if self.given == self.block.len() {
            self.block = draw(&self.block, &mut self.rng);
            (self.given, self.number) = (0, self.number + 1);
        }
        self.given += 1;
        (self.block[self.given - 1], self.number)
    }

    /// How many slices a block has.
    pub(super) fn slices(&self) -> usize {
        self.block.len()
    }
}

/// The slices of a block in an order.
fn draw(slices: &[Arm], rng: &mut StdRng) -> Vec<Arm> {
    let mut placed = Vec::with_capacity(slices.len());
    for arm in Arm::ALL {
        let count = slices.iter().filter(|&&one| one == arm).count();
        let first: f64 = rng.random();
        placed.extend((0..count).map(|at| ((at as f64 + first) / count as f64, arm)));
    }
    placed.sort_unstable_by(|one, other| one.0.total_cmp(&other.0));
    let mut drawn: Vec<Arm> = placed.into_iter().map(|(_, arm)| arm).collect();
    drawn.rotate_left(rng.random_range(0..slices.len().max(1)));
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_block_has_the_shares_in_an_order_of_its_own_and_the_same_seed_gives_the_same() {
        let draw = |seed| {
            let mut blocks = Blocks::new(&Shares::default(), seed);
            (0..1000).map(|_| blocks.next()).collect::<Vec<_>>()
        };
        let all = draw(7);
        for (number, block) in all.chunks(10).enumerate() {
            assert!(block.iter().all(|&(_, of)| of == number as u64));
            let often = Arm::ALL.map(|arm| block.iter().filter(|&&(one, _)| one == arm).count());
            assert_eq!(often, [5, 3, 2]);
        }
        let orders: std::collections::BTreeSet<_> =
            all.chunks(10).map(|block| block.iter().map(|&(arm, _)| arm).collect::<Vec<_>>()).collect();
        assert!(orders.len() > 20, "{}", orders.len());
        for place in 0..10 {
            let often = Arm::ALL.map(|arm| all.iter().skip(place).step_by(10).filter(|one| one.0 == arm).count());
            let near = often.iter().zip([50, 30, 20]).all(|(&often, wanted)| often.abs_diff(wanted) < 20);
            assert!(near, "place {place}: {often:?}");
        }
        // No arm has all of its slices in one half.
        let halves = all.chunks(10).map(|block| block[..5].iter().filter(|one| one.0 == Arm::Control).count());
        assert!(halves.clone().all(|count| (2..=3).contains(&count)), "{:?}", halves.collect::<Vec<_>>());
        assert_eq!((all.clone(), false), (draw(7), all == draw(8)));
    }
}
