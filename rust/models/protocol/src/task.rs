// SPDX-License-Identifier: GPL-2.0

//! Who does something: tasks, what they are to do, and how far they are.

use crate::Hook;

/// Most tasks of a model.
pub const TASKS: usize = 5;

/// Who a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// A thread of the parent, on the CPU of this number. It dies with the parent.
    Thread(usize),
    /// A child; this begins when fork is over, and is not if there is no child.
    Child(usize),
    /// Somebody else, who is interested in a child or in the parent.
    Other,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// Writes to an address of the parent, by a CPU.
    Write(usize),
    /// Forks a child.
    Fork(usize),
    /// Changes a range of the parent, under a hook; what is changed is known by that.
    Change(Hook, usize),
    /// `MADV_COLLAPSE`
    Collapse(usize),
    /// A device whose driver has its own page tables begins to write to an address.
    Device(usize),
    /// `ptrace()` writes to an address.
    GupWrite(usize),
    /// GUP-fast pins an address, and a device writes to it if it may.
    Pin(usize, bool),
    /// The parent exits, after all other threads.
    Exit,
    /// The child copies what is pending, and goes to user space.
    CopyAll,
    /// The child writes to an address.
    ChildWrite(usize),
    /// The child forks a child of its own.
    ChildFork(usize),
    /// The child exits.
    ChildExit,
    /// The same, if it has been killed.
    ChildDies,
    /// Somebody looks at a range of a child, under a hook.
    Look(Hook, usize, usize),
    /// Somebody kills a child.
    Kill(usize),
    /// Somebody changes the mapping of a child.
    ChangeChild(usize),
    /// The OOM reaper comes for the parent.
    Reap,
    /// khugepaged comes to a range of the parent.
    Khugepaged(usize),
    /// KSM comes to an address of the parent.
    Ksm(usize),
    /// The page at an address of the parent is migrated.
    Migrate(usize),
}

/// How far an operation is. What it means differs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(missing_docs)]
pub enum Pc {
    #[default]
    Start,
    // Operations in general
    Act,
    Flush,
    Wait,
    Leave,
    // Fork
    Look,
    Protect,
    Copy,
    Unlock,
    Arm,
    // Faults
    Fault,
    Repair,
    Wp,
    Cow,
    // GUP-fast
    Mark,
    Grab,
    Recheck,
    Sequence,
    Slow,
    Dma,
}

/// Their number.
pub const PCS: u32 = Pc::Dma as u32 + 1;

/// Is a task in one of the functions of `settle.rs`?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Call {
    /// No.
    #[default]
    None,
    /// `Tracker::push()`
    Push,
    /// `Session::pull()`
    Pull,
    /// `Session::copy_all()`
    Copy,
}

/// What comes next there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(missing_docs)]
pub enum Settle {
    #[default]
    Claim,
    Copy,
    Publish,
    Settled,
    Lift,
    Complete,
    Fail,
    Bury,
    Over,
    Check,
    Pause,
    Note,
}

/// Why a pull fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Failure {
    /// It does not.
    #[default]
    None,
    /// `ENOMEM`
    Memory,
    /// `EFAULT`
    Over,
}

/// Their number.
pub const SETTLES: u32 = Settle::Note as u32 + 1;

/// What a copy wants to go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Want {
    /// Nothing.
    #[default]
    Nothing,
    /// A page. That it is wanted, when the range is claimed, means that it is there.
    Folio,
}

/// A task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Task {
    /// Which of its operations it is at.
    pub op: u8,
    /// Where it is in that.
    pub pc: Pc,
    /// And where in the functions of the core.
    pub call: Call,
    /// What comes next there.
    pub settle: Settle,
    /// The session that it is at.
    pub slot: u8,
    /// Where it has begun, for each session.
    pub from: u8,
    /// The range that it is at.
    pub cursor: u8,
    /// Where it ends.
    pub end: u8,
    /// Can it not do without?
    pub must: bool,
    /// Why it has failed.
    pub failed: Failure,
    /// The PTE of the range.
    pub at: u8,
    /// And where this attempt has begun.
    pub start: u8,
    /// It goes on with a copy.
    pub resume: bool,
    /// What it wants.
    pub want: Want,
    /// It has copied a migration entry, and has not told walks yet.
    pub migrations: bool,
    /// It has settled the last range.
    pub last: bool,
    /// How often it has tried to copy a range.
    pub tries: u8,
    /// Registers of operations.
    pub a: u8,
    /// Another one.
    pub b: u8,
    /// A page of which it has a reference, and 1.
    pub hold: u8,
    /// Pages that are unmapped, and are freed after the flush.
    pub gather: u16,
}

impl Task {
    /// Its session.
    pub fn session(&self) -> usize {
        self.slot.into()
    }

    /// Its range.
    pub fn range(&self) -> usize {
        self.cursor.into()
    }

    /// Is it on the parent's side?
    pub fn pushes(&self) -> bool {
        self.call == Call::Push
    }

    /// Does it use the parent's mapping, by a lock of its own that it has for a claim?
    pub fn is_in_parent(&self) -> bool {
        matches!(self.call, Call::Pull | Call::Copy)
            && matches!(
                self.settle,
                Settle::Copy | Settle::Note | Settle::Publish | Settle::Settled | Settle::Lift
            )
    }
}
