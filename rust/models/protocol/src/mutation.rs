// SPDX-License-Identifier: GPL-2.0

//! Bugs to plant.

/// The hooks, each with the half that `ci/hooks` names; sites of one kind are one hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs)]
pub enum Hook {
    Fault,
    Gup,
    GupFast,
    Munmap,
    Split,
    Merge,
    Mprotect,
    Mremap,
    Discard,
    Guard,
    Collapse,
    Khugepaged,
    Ksm,
    UffdRegister,
    UffdMove,
    ClearRefs,
    Notifier,
    VmaWrite,
    Walk,
    FolioWalk,
    Oom,
    Exit,
    Migration,
}

impl Hook {
    /// All of them.
    pub const ALL: [Hook; 23] = [
        Hook::Fault,
        Hook::Gup,
        Hook::GupFast,
        Hook::Munmap,
        Hook::Split,
        Hook::Merge,
        Hook::Mprotect,
        Hook::Mremap,
        Hook::Discard,
        Hook::Guard,
        Hook::Collapse,
        Hook::Khugepaged,
        Hook::Ksm,
        Hook::UffdRegister,
        Hook::UffdMove,
        Hook::ClearRefs,
        Hook::Notifier,
        Hook::VmaWrite,
        Hook::Walk,
        Hook::FolioWalk,
        Hook::Oom,
        Hook::Exit,
        Hook::Migration,
    ];

    /// The name, as in `ci/hooks`.
    pub fn name(self) -> String {
        let mut name = String::new();
        for c in format!("{self:?}").chars() {
            if c.is_uppercase() && !name.is_empty() {
                name.push('_');
            }
            name.push(c.to_ascii_lowercase());
        }
        name + match self {
            Hook::FolioWalk | Hook::VmaWrite | Hook::Walk => ":pull",
            _ => ":push",
        }
    }
}

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutation {
    /// A hook is disabled.
    Without(Hook),
    /// fork does not flush.
    NoFlush,
    /// fork arms the session and unlocks the parent, and then flushes.
    FlushAfterArm,
    /// The entry is made writable when the range is claimed, not when it is copied.
    LiftBeforeCopy,
    /// The same after the copy, but before the range is settled and whether or not others need it.
    LiftBeforePublish,
    /// The entry is made writable although another session needs it.
    LiftForAll,
    /// Whether others need it is asked without the lock of the entry.
    LiftOutsideLock,
    /// The entry is left protected by who copies.
    NotLifted,
    /// The entry is left protected by who faults after a session was abandoned.
    RepairForgotten,
    /// A claim is no lock.
    ClaimWithoutLock,
    /// A claim is held while its owner waits for what the copy lacks.
    ClaimOverSleep,
    /// A claim is held while its owner waits for the parent's mapping.
    ClaimOverPause,
    /// It is not asked if what is claimed is pending, and of a good session.
    ClaimWithoutLooking,
    /// Who goes on with a copy begins at the start.
    ResumedCopyCopiesTwice,
    /// A copy that stops half-way is taken for whole.
    HalfACopyIsPublished,
    /// A copy does not look for pins.
    PinsIgnored,
    /// fork does not look for the mark of the page table.
    MarkIgnored,
    /// GUP-fast does not look at `write_protect_seq` again.
    SequenceIgnored,
    /// GUP-fast leaves its mark after that.
    MarkLate,
    /// The session of the last range is not removed.
    LastRangeDoesNotEnd,
    /// It is removed while others have not left the parent.
    CompletedWithoutWaiting,
    /// A session that has failed is removed while others copy.
    FailedWithoutWaiting,
    /// A child that exits does not wait for those who copy.
    AbandonedWithoutWaiting,
    /// Who pushes does not wait for those who copy in a session that is over.
    PushDoesNotWait,
    /// Who pushes leaves a session that is over to who has ended it.
    PushIgnoresTheEnded,
    /// Who pushes does so for the first session only.
    PushSkipsASession,
    /// The parent exits and does not wait for those who copy.
    ExitDoesNotWait,
    /// The parent exits, and frees memory before it settles it.
    ExitZapsFirst,
    /// The OOM reaper does not wait for those who copy.
    AbortDoesNotWait,
    /// A copy does not look at `MMF_UNSTABLE`. No bug, as long as the reaper waits.
    UnstableIgnored,
    /// khugepaged looks for copies when it scans, and not again with the lock for writing.
    BusyAskedOnce,
    /// Walks are told of copies of migration entries before the page tables are locked.
    NotedBeforeLock,
    /// The same with them locked, before there is an entry. No bug: whoever is told waits.
    NotedBeforeCopy,
    /// They are told when the page tables are unlocked.
    NotedAfterUnlock,
    /// A walk that removes migration entries can be told from its second step on.
    WalkBegunLate,
    /// What a walk is told is not forgotten before the next one.
    WalkBegunOnce,
    /// There is another walk only if this one has removed an entry of a parent.
    RetryIfRestored,
    /// A child whose session is over goes on to user space.
    AbandonedGoesOn,
    /// `munmap()` unmaps before it settles.
    MunmapSettlesLate,
}
