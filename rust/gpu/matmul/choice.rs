//! Which kernel makes a product, and into how many parts its sum is split: one estimate of the time of each, by
//! the product's shape and by how much of the card it fills. Nothing here touches the device.

use crate::gpu::adapter::Kind;
use crate::gpu::cooperative::Matrices;

/// Sizes of one product of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gpu) struct Sizes {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub batches: usize,
}

/// What the choice may know of a device.
#[derive(Clone, Copy, Debug)]
pub(in crate::gpu) struct Card {
    pub kind: Kind,
    /// Invocations of a workgroup, and bytes of its memory.
    pub lanes: u32,
    pub shared: u32,
    /// What its subgroups multiply together of operands like these.
    pub cooperative: Option<Matrices>,
}

/// A kernel of the ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::gpu) enum Rung {
    /// An element an invocation: for 64-bit integers, which are no elements of vectors.
    One,
    /// At most four rows or columns, reading the other operand once.
    Thin,
    Tile(Tile),
}

/// How a workgroup makes a tile; see `shaders/tile.wgsl` and `shaders/tile_cooperative.wgsl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::gpu) struct Tile {
    /// Rows and columns.
    pub size: usize,
    pub lanes: usize,
    pub sums: Sums,
}

/// Where a workgroup keeps its sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::gpu) enum Sums {
    /// 4 × 4 in the registers of an invocation.
    Four,
    /// 8 × 8.
    Eight,
    /// Cooperative matrices of subgroups.
    Matrices(Matrices),
}

impl Tile {
    /// Steps along k that go through workgroup memory together.
    pub fn strip(self) -> usize {
        8 * self.lanes / self.size
    }

    /// Bytes of workgroup memory for values of a size.
    pub fn shared(self, value: usize) -> usize {
        match self.sums {
            Sums::Matrices(matrices) => 4 * self.strip() * (self.size + 8) + 4 * matrices.results(),
            _ => 2 * self.strip() * (self.size / 4 + 1) * 4 * value,
        }
    }

    /// Its place in kernels' keys.
    pub fn number(self) -> u32 {
        let matrices = if let Sums::Matrices(matrices) = self.sums { matrices.number() } else { 0 };
        self.size as u32 | matrices << 16
    }

    /// The tile that half floats are multiplied in by subgroups together.
    pub fn of_matrices(matrices: Matrices) -> Tile {
        Tile { size: 128, lanes: 256, sums: Sums::Matrices(matrices) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gpu) struct Choice {
    pub rung: Rung,
    /// Of the sum over k.
    pub parts: usize,
}

pub(in crate::gpu) const TILES: [Tile; 3] = [
    Tile { size: 128, lanes: 256, sums: Sums::Eight },
    Tile { size: 64, lanes: 64, sums: Sums::Eight },
    Tile { size: 32, lanes: 64, sums: Sums::Four },
];

/// Rows or columns of a thin product.
pub(in crate::gpu) const THIN: usize = 4;
/// Of the sum, the least that is worth a part.
const LEAST: usize = 256;
const MOST_PARTS: usize = 64;
/// What a second kernel costs, in multiply-adds of a unit, and what a part of a result costs there.
const SECOND: f64 = 1e6;
const ADD: f64 = 25.0;

/// Units that work at the same time, each on a workgroup: no interface of the driver tells, so a number for the
/// kind of card, of which only the order matters.
pub(in crate::gpu) fn units(kind: Kind) -> usize {
    match kind {
        Kind::Discrete | Kind::Virtual | Kind::Other => 128,
        Kind::Integrated => 16,
        Kind::Software => 2,
    }
}

/// The speed of a unit on a tile beside the largest: small tiles read more for each multiply-add.
fn rate(tile: Tile, kind: Kind) -> f64 {
    match (tile.size, kind) {
        _ if matches!(tile.sums, Sums::Matrices(_)) => 6.0,
        // Invocations of software are lanes of a vector, and registers lie in memory.
        (_, Kind::Software) => 1.0,
        (128, _) => 1.0,
        (64, _) => 0.8,
        _ => 0.45,
    }
}

/// Chooses. `time = rounds · work of a workgroup / rate`, where a round is a workgroup on each unit, plus the
/// second kernel if the sum is split: large tiles where they fill the card, smaller ones or a split sum
/// where they do not. It costs less than a look into a cache would.
pub(in crate::gpu) fn choose(sizes: Sizes, value: usize, card: Card) -> Choice {
    if value == 8 {
        return Choice { rung: Rung::One, parts: 1 };
    }
    let units = units(card.kind) as f64;
    let Sizes { m, n, k, batches } = sizes;
    let parts_of = |parts: usize| parts == 1 || k >= parts * LEAST;
    let parts = [1, 2, 4, 8, 16, 32, MOST_PARTS].into_iter().filter(|&parts| parts_of(parts));
    let second = |parts: usize| match parts {
        1 => 0.0,
        _ => SECOND + ADD * (parts * batches * m * n) as f64 / units,
    };
    if m.min(n) <= THIN {
        // Reading is what costs: as many workgroups as keep all units busy.
        let groups = batches * m.max(n).div_ceil(8);
        let parts = parts.take_while(|parts| groups * parts <= 4 * units as usize).last().unwrap_or(1);
        let worth = k as f64 * 64.0 * (groups as f64 / units).max(1.0) > SECOND;
        return Choice { rung: Rung::Thin, parts: if worth { parts } else { 1 } };
    }
    let mut best = (f64::INFINITY, Choice { rung: Rung::Tile(TILES[2]), parts: 1 });
    for tile in TILES.into_iter().chain(card.cooperative.map(Tile::of_matrices)) {
        if tile.lanes > card.lanes as usize || tile.shared(value) > card.shared as usize {
            continue;
        }
        for parts in parts.clone() {
            let groups = batches * m.div_ceil(tile.size) * n.div_ceil(tile.size) * parts;
            let rounds = (groups as f64 / units).ceil();
            let work = (tile.size * tile.size * k.div_ceil(parts)) as f64;
            let time = rounds * work / rate(tile, card.kind) + second(parts);
            if time < best.0 {
                best = (time, Choice { rung: Rung::Tile(tile), parts });
            }
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(kind: Kind, m: usize, n: usize, k: usize, batches: usize) -> (usize, usize) {
        let card = Card { kind, lanes: 256, shared: 32 << 10, cooperative: None };
        let choice = choose(Sizes { m, n, k, batches }, 4, card);
        let size = match choice.rung {
            Rung::One | Rung::Thin => 0,
            Rung::Tile(tile) => tile.size,
        };
        (size, choice.parts)
    }

    #[test]
    fn large_tiles_fill_the_card_and_small_ones_what_is_left() {
        let discrete = |m, n, k, batches| chosen(Kind::Discrete, m, n, k, batches);
        assert_eq!(discrete(4096, 4096, 4096, 1), (128, 1));
        assert_eq!(discrete(8192, 8192, 8192, 1), (128, 1));
        assert_eq!(discrete(1024, 1024, 64, 1), (64, 1));
        assert_eq!(discrete(128, 128, 128, 1).0, 32);
        assert_eq!(discrete(256, 256, 64, 96).0, 128);
        // A long sum to a small result is split.
        let (_, parts) = discrete(64, 64, 1 << 16, 1);
        assert!(parts >= 16, "{parts}");
        // One row, one column.
        assert_eq!(discrete(1, 4096, 4096, 1).0, 0);
        assert_eq!(discrete(100_000, 1, 64, 1), (0, 1));
        assert!(discrete(1, 1, 1 << 22, 1).1 > 8);
        assert_eq!(chosen(Kind::Integrated, 1024, 1024, 1024, 1), (128, 1));
    }

    #[test]
    fn a_card_without_room_for_a_tile_gets_a_smaller_one() {
        let card = Card { kind: Kind::Discrete, lanes: 128, shared: 16 << 10, cooperative: None };
        let choice = choose(Sizes { m: 4096, n: 4096, k: 4096, batches: 1 }, 4, card);
        assert_eq!(choice.rung, Rung::Tile(TILES[1]));
        // 64-bit integers are no elements of vectors, which tiles are made of.
        assert_eq!(choose(Sizes { m: 4096, n: 4096, k: 4096, batches: 1 }, 8, card).rung, Rung::One);
    }

    #[test]
    fn subgroups_multiply_what_fills_their_tile() {
        let matrices = Matrices { size: 16, patches: 8 };
        let card = Card { kind: Kind::Discrete, lanes: 256, shared: 32 << 10, cooperative: Some(matrices) };
        let rung = |m, n, k| choose(Sizes { m, n, k, batches: 1 }, 4, card).rung;
        assert_eq!(rung(4096, 4096, 4096), Rung::Tile(Tile::of_matrices(matrices)));
        assert_eq!(rung(16, 16, 1 << 16), Rung::Tile(TILES[2]));
        assert_eq!(rung(1, 4096, 4096), Rung::Thin);
        let small = Card { shared: 16 << 10, ..card };
        assert_ne!(
            choose(Sizes { m: 4096, n: 4096, k: 64, batches: 1 }, 4, small).rung,
            rung(4096, 4096, 64)
        );
    }

    #[test]
    fn every_tile_has_a_block_for_every_invocation() {
        for tile in TILES {
            assert_eq!(2 * (tile.size / 4) * (tile.strip() / 4), tile.lanes);
            let per_lane = if tile.sums == Sums::Eight { 64 } else { 16 };
            assert_eq!(tile.size * tile.size, tile.lanes * per_lane);
        }
    }
}
