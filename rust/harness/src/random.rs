// SPDX-License-Identifier: GPL-2.0

//! Programs at random, the same for the same seed.

use crate::program::{Op, THREADS};

/// Numbers that look random (xorshift64*).
pub struct Random(u64);

impl Random {
    /// A sequence that depends on `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Less than `n`.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
    }

    /// Any.
    pub fn byte(&mut self) -> u8 {
        self.below(256) as u8
    }
}

/// How often what is done, out of all of these.
const WEIGHTS: [(Op, usize); 24] = [
    (Op::Write, 22),
    (Op::Exec, 2),
    (Op::Read, 6),
    (Op::Fork, 14),
    (Op::Munmap, 5),
    (Op::Mmap, 5),
    (Op::Mprotect, 4),
    (Op::Discard, 4),
    (Op::Mremap, 2),
    (Op::Boundary, 3),
    (Op::Notifier, 1),
    (Op::Peek, 10),
    (Op::Poke, 6),
    (Op::Collapse, 4),
    (Op::Kill, 1),
    (Op::Reap, 1),
    (Op::Dma, 4),
    (Op::Clone, 3),
    (Op::Exit, 3),
    (Op::Yield, 6),
    (Op::Sysctl, 1),
    (Op::Prctl, 1),
    (Op::WriteAll, 4),
    (Op::Migrate, 10),
];

/// The bytes of a program of `steps` steps, of which the allocation `fail_at` fails.
pub fn program(seed: u64, steps: usize, fail_at: u8) -> Vec<u8> {
    let mut random = Random::new(seed);
    let sum: usize = WEIGHTS.iter().map(|(_, weight)| weight).sum();
    let mut bytes = vec![random.byte(), fail_at, random.byte()];
    for step in 0..steps {
        let mut at = random.below(sum);
        let op = WEIGHTS.iter().find(|(_, weight)| {
            let found = at < *weight;
            at = at.wrapping_sub(*weight);
            found
        });
        // The first thread forks early, so that there is something to do for the others.
        let (thread, op) = match step {
            0 => (0, Op::Fork),
            _ => (random.below(THREADS), op.map_or(Op::Write, |(op, _)| *op)),
        };
        bytes.extend([(thread << 5) as u8 | op as u8, random.byte(), random.byte()]);
    }
    bytes.push(255);
    bytes.extend((0..random.below(400)).map(|_| random.byte()));
    bytes
}
