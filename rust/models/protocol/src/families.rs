// SPDX-License-Identifier: GPL-2.0

//! The sizes that are explored.
//!
//! In all of them two threads of the parent run on two CPUs, and there are children and others. A
//! family is a product: one of this, with one of that.

use crate::{
    Hook,
    task::{Op, Role},
};

/// What each task of a model does.
pub type Scenario = Vec<(Role, Vec<Op>)>;

/// Models of one size, that differ in what the tasks do.
#[derive(Clone, Debug)]
pub struct Family {
    /// How it is called.
    pub name: &'static str,
    /// Ranges of two PTEs each.
    pub ranges: u8,
    /// The last PTE is empty.
    pub hole: bool,
    /// All pages contain zero.
    pub zero: bool,
    /// Allocations that may fail.
    pub failures: u8,
    /// Forks that may.
    pub fork_failures: u8,
    /// What the tasks do.
    pub scenarios: Vec<Scenario>,
}

impl Family {
    fn new(name: &'static str, ranges: u8, scenarios: Vec<Scenario>) -> Self {
        Self {
            name,
            ranges,
            hole: false,
            zero: false,
            failures: 0,
            fork_failures: 0,
            scenarios,
        }
    }
}

const FIRST: Role = Role::Thread(0);
const SECOND: Role = Role::Thread(1);

/// All combinations of one program of each task.
fn product(tasks: &[(Role, Vec<Vec<Op>>)]) -> Vec<Scenario> {
    let mut scenarios = vec![vec![]];
    for (role, programs) in tasks {
        scenarios = (scenarios.iter())
            .flat_map(|scenario: &Scenario| {
                programs.iter().map(|program| {
                    let mut scenario = scenario.clone();
                    scenario.push((*role, program.clone()));
                    scenario
                })
            })
            .collect();
    }
    scenarios
}

/// What a child may do.
fn lives() -> Vec<Vec<Op>> {
    vec![
        vec![Op::CopyAll, Op::ChildWrite(0), Op::ChildDies],
        vec![Op::CopyAll, Op::ChildExit],
        vec![Op::ChildExit],
    ]
}

/// A child of which no more is wanted than that it comes to be.
fn copies() -> Vec<Vec<Op>> {
    vec![vec![Op::CopyAll, Op::ChildDies]]
}

/// `before` and each of `ops`.
fn after(before: &[Op], ops: &[Op]) -> Vec<Vec<Op>> {
    (ops.iter()).map(|&op| [before, &[op]].concat()).collect()
}

/// Changes of one range.
const CHANGES: [Op; 8] = [
    Op::Change(Hook::Munmap, 0),
    Op::Change(Hook::Split, 0),
    Op::Change(Hook::Merge, 0),
    Op::Change(Hook::Mprotect, 0),
    Op::Change(Hook::Mremap, 0),
    Op::Change(Hook::Discard, 0),
    Op::Change(Hook::Guard, 0),
    Op::Change(Hook::ClearRefs, 0),
];

/// Somebody who looks at a range of a child.
const fn look(child: usize, range: usize) -> Op {
    Op::Look(Hook::Walk, child, range)
}

/// One program of one operation each.
fn one(ops: &[Op]) -> Vec<Vec<Op>> {
    after(&[], ops)
}

/// Writes of two threads while fork runs or fails, and after it: TLBs, flush, copy on write,
/// repair.
pub fn writes() -> Family {
    let writes = [Op::Write(0), Op::Write(1), Op::GupWrite(0)];
    let mut second = after(&[Op::Write(0)], &writes);
    second.extend(after(&[Op::GupWrite(1)], &writes));
    let tasks = [
        (FIRST, after(&[Op::Fork(0)], &writes)),
        (SECOND, second),
        (Role::Child(0), lives()),
        (Role::Other, one(&[look(0, 0), Op::Kill(0)])),
    ];
    Family {
        fork_failures: 1,
        ..Family::new("writes", 1, product(&tasks))
    }
}

/// Changes of the parent's mapping by one thread, and something else by the other, while somebody
/// looks at the child.
pub fn changes() -> Family {
    let second = [
        Op::Write(0),
        Op::GupWrite(1),
        Op::Change(Hook::Munmap, 0),
        Op::Change(Hook::Discard, 0),
        Op::Change(Hook::Split, 0),
    ];
    let others = [
        look(0, 0),
        Op::Look(Hook::FolioWalk, 0, 0),
        Op::ChangeChild(0),
    ];
    let tasks = [
        (FIRST, after(&[Op::Fork(0)], &CHANGES)),
        (SECOND, one(&second)),
        (Role::Child(0), lives()),
        (Role::Other, one(&others)),
    ];
    Family::new("changes", 1, product(&tasks))
}

/// Two children of which one or both need a range.
pub fn sessions() -> Family {
    let mut first = after(
        &[Op::Fork(0), Op::Fork(1)],
        &[Op::Write(0), Op::Change(Hook::Munmap, 0), Op::GupWrite(1)],
    );
    first.push(vec![Op::Fork(0), Op::Write(0), Op::Fork(1), Op::Write(0)]);
    let second = one(&[Op::Write(0), Op::Write(1), Op::Change(Hook::Discard, 0)]);
    let children = vec![
        vec![Op::CopyAll, Op::ChildDies],
        vec![Op::CopyAll, Op::ChildExit],
        vec![Op::ChildExit],
    ];
    let tasks = [
        (FIRST, first),
        (SECOND, second),
        (Role::Child(0), children.clone()),
        (Role::Child(1), children),
    ];
    Family::new("sessions", 1, product(&tasks))
}

/// Two children, and somebody who looks at one.
pub fn observed_sessions() -> Family {
    let tasks = [
        (FIRST, vec![vec![Op::Fork(0), Op::Fork(1), Op::Write(0)]]),
        (SECOND, one(&[Op::Write(1)])),
        (
            Role::Child(0),
            vec![vec![Op::CopyAll, Op::ChildDies], vec![Op::ChildExit]],
        ),
        (Role::Child(1), copies()),
        (Role::Other, one(&[look(0, 0), Op::Kill(1)])),
    ];
    Family::new("observed sessions", 1, product(&tasks))
}

/// A session of two ranges: the last one ends it.
pub fn ranges() -> Family {
    let first = after(
        &[Op::Fork(0)],
        &[
            Op::Write(0),
            Op::Change(Hook::Munmap, 0),
            Op::Change(Hook::Mremap, 1),
            Op::Exit,
        ],
    );
    let others = [look(0, 1), Op::Kill(0), Op::ChangeChild(0)];
    let tasks = [
        (FIRST, first),
        (SECOND, one(&[Op::Write(2), Op::Change(Hook::Discard, 1)])),
        (Role::Child(0), lives()),
        (Role::Other, one(&others)),
    ];
    Family::new("ranges", 2, product(&tasks))
}

/// A parent that exits while its children, and others, copy from it.
pub fn exits() -> Family {
    let tasks = [
        (
            FIRST,
            vec![
                vec![Op::Fork(0), Op::Exit],
                vec![Op::Fork(0), Op::Fork(1), Op::Exit],
            ],
        ),
        (SECOND, one(&[Op::Write(0), Op::Change(Hook::Discard, 0)])),
        (Role::Child(0), lives()),
        (
            Role::Child(1),
            vec![vec![Op::CopyAll, Op::ChildDies], vec![Op::ChildExit]],
        ),
        (Role::Other, one(&[look(0, 0)])),
    ];
    Family::new("exits", 1, product(&tasks))
}

/// The OOM reaper comes.
pub fn reaped() -> Family {
    let first = vec![
        vec![Op::Fork(0), Op::Write(0), Op::Exit],
        vec![Op::Fork(0), Op::Change(Hook::Munmap, 0)],
    ];
    let tasks = [
        (FIRST, first),
        (SECOND, one(&[Op::Write(1)])),
        (Role::Child(0), lives()),
        (Role::Other, one(&[look(0, 0)])),
        (Role::Other, one(&[Op::Reap])),
    ];
    Family::new("reaped", 1, product(&tasks))
}

/// The OOM reaper comes, and there are two children.
pub fn reaped_sessions() -> Family {
    let tasks = [
        (FIRST, vec![vec![Op::Fork(0), Op::Fork(1)]]),
        (SECOND, one(&[Op::Write(0), Op::GupWrite(1)])),
        (
            Role::Child(0),
            vec![vec![Op::CopyAll, Op::ChildDies], vec![Op::ChildExit]],
        ),
        (Role::Child(1), copies()),
        (Role::Other, one(&[Op::Reap])),
    ];
    Family::new("reaped sessions", 1, product(&tasks))
}

/// Pages are migrated while page tables are copied.
pub fn migration() -> Family {
    let changes = [
        Op::Write(1),
        Op::Change(Hook::Munmap, 0),
        Op::Change(Hook::Discard, 0),
    ];
    let tasks = [
        (FIRST, after(&[Op::Fork(0)], &changes)),
        (SECOND, one(&[Op::Write(1)])),
        (
            Role::Child(0),
            vec![
                vec![Op::CopyAll, Op::ChildWrite(0), Op::ChildDies],
                vec![Op::ChildExit],
            ],
        ),
        (Role::Other, one(&[look(0, 0)])),
        (Role::Other, one(&[Op::Migrate(1)])),
    ];
    Family::new("migration", 1, product(&tasks))
}

/// The same with two children.
pub fn migration_of_sessions() -> Family {
    let tasks = [
        (FIRST, vec![vec![Op::Fork(0), Op::Fork(1)]]),
        (SECOND, one(&[Op::GupWrite(1), Op::Change(Hook::Munmap, 0)])),
        (Role::Child(0), copies()),
        (Role::Child(1), copies()),
        (Role::Other, one(&[Op::Migrate(0), Op::Migrate(1)])),
    ];
    Family::new("migration of sessions", 1, product(&tasks))
}

/// The same while the parent exits, moves the page elsewhere, or is reaped.
pub fn migration_at_the_end() -> Family {
    let ends = [Op::Exit, Op::Change(Hook::Mremap, 0)];
    let tasks = [
        (FIRST, after(&[Op::Fork(0)], &ends)),
        (
            Role::Child(0),
            vec![vec![Op::CopyAll, Op::ChildDies], vec![Op::ChildExit]],
        ),
        (Role::Other, one(&[look(0, 0)])),
        (Role::Other, one(&[Op::Reap, Op::Kill(0)])),
        (Role::Other, one(&[Op::Migrate(0)])),
    ];
    Family::new("migration at the end", 1, product(&tasks))
}

/// The same with a child of a child.
pub fn migration_of_generations() -> Family {
    let forks = [Op::CopyAll, Op::ChildFork(1)];
    let tasks = [
        (
            FIRST,
            after(&[Op::Fork(0)], &[Op::Change(Hook::Discard, 0), Op::Exit]),
        ),
        (
            Role::Child(0),
            after(&forks, &[Op::ChildDies, Op::ChildExit]),
        ),
        (
            Role::Child(1),
            vec![vec![Op::CopyAll, Op::ChildDies], vec![Op::ChildExit]],
        ),
        (Role::Other, one(&[Op::Migrate(0), Op::Migrate(1)])),
    ];
    let observed = [
        (FIRST, vec![vec![Op::Fork(0)]]),
        (Role::Child(0), after(&forks, &[Op::ChildExit])),
        (Role::Child(1), copies()),
        (Role::Other, one(&[Op::Migrate(0)])),
        (Role::Other, one(&[Op::Reap, look(1, 0)])),
    ];
    let scenarios = [product(&tasks), product(&observed)].concat();
    Family::new("migration of generations", 1, scenarios)
}

/// Pages are pinned before, during and after fork.
pub fn pins() -> Family {
    let first = vec![
        vec![Op::Fork(0), Op::Write(0)],
        vec![Op::Pin(1, true), Op::Fork(0), Op::Write(0)],
        vec![Op::Fork(0), Op::Pin(1, false)],
        vec![Op::Fork(0), Op::Pin(1, true), Op::Fork(1), Op::Write(1)],
        vec![Op::Fork(0), Op::Fork(1), Op::Write(0)],
    ];
    let tasks = [
        (FIRST, first),
        (SECOND, one(&[Op::Pin(0, true), Op::Pin(0, false)])),
        (Role::Child(0), lives()),
        (Role::Child(1), copies()),
    ];
    Family::new("pins", 1, product(&tasks))
}

/// A page table is collapsed, or a page is merged with that of zeros.
pub fn collapse() -> Family {
    let tasks = [
        (
            FIRST,
            after(&[Op::Fork(0)], &[Op::Write(0), Op::Collapse(0)]),
        ),
        (
            SECOND,
            one(&[Op::Write(1), Op::Collapse(0), Op::Pin(1, true)]),
        ),
        (Role::Child(0), lives()),
        (Role::Other, one(&[look(0, 0)])),
        (Role::Other, one(&[Op::Khugepaged(0), Op::Ksm(1)])),
    ];
    Family {
        zero: true,
        ..Family::new("collapse", 1, product(&tasks))
    }
}

/// Something is put into an address that was empty at the fork.
pub fn holes() -> Family {
    let fills = [
        Op::Write(1),
        Op::Change(Hook::UffdRegister, 0),
        Op::Change(Hook::UffdMove, 0),
    ];
    let tasks = [
        (FIRST, after(&[Op::Fork(0)], &fills)),
        (
            SECOND,
            one(&[Op::Write(0), Op::Write(1), Op::Change(Hook::UffdMove, 0)]),
        ),
        (Role::Child(0), lives()),
        (Role::Other, one(&[look(0, 0), Op::Kill(0)])),
    ];
    Family {
        hole: true,
        ..Family::new("holes", 1, product(&tasks))
    }
}

/// A device with page tables of its own.
pub fn devices() -> Family {
    let tasks = [
        (FIRST, after(&[Op::Fork(0)], &[Op::Write(0), Op::Device(0)])),
        (
            SECOND,
            one(&[Op::Device(1), Op::Write(1), Op::Pin(1, true)]),
        ),
        (Role::Child(0), lives()),
        (Role::Other, one(&[look(0, 0), Op::Kill(0)])),
    ];
    Family::new("devices", 1, product(&tasks))
}

/// There is no memory for one copy.
pub fn failures() -> Family {
    let first = after(
        &[Op::Fork(0)],
        &[Op::Write(0), Op::Change(Hook::Munmap, 0), Op::Exit],
    );
    let tasks = [
        (FIRST, first),
        (SECOND, one(&[Op::Write(1), Op::GupWrite(0)])),
        (Role::Child(0), lives()),
        (Role::Other, one(&[look(0, 0), Op::ChangeChild(0)])),
    ];
    Family {
        failures: 1,
        ..Family::new("failures", 1, product(&tasks))
    }
}

/// There is no memory for the copy of one of two ranges.
pub fn failing_ranges() -> Family {
    let tasks = [
        (FIRST, after(&[Op::Fork(0)], &[Op::Write(2), Op::Exit])),
        (
            SECOND,
            one(&[Op::Write(0), Op::Write(2), Op::Change(Hook::Munmap, 0)]),
        ),
        (Role::Child(0), lives()),
    ];
    Family {
        failures: 1,
        ..Family::new("failing ranges", 2, product(&tasks))
    }
}
