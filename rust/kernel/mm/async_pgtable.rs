// SPDX-License-Identifier: GPL-2.0

//! Asynchronous page tables for fork.
//!
//! `fork()` with `CLONE_ASYNC_PGTABLE` does not copy the page tables of large private anonymous
//! mappings. It write-protects the parent's PMD entries and returns. This module decides what
//! happens to each _range_, the memory behind one PMD entry, from then on.
//!
//! # Words
//!
//! - A [`Session`] is the deferred copy of one fork.
//! - A range is *pending* until it is *settled*: the child has it, or nobody needs it any more.
//! - To *settle* a range is to *claim* and copy it, or to find it copied. The parent *pushes* it
//!   before it changes it; the child, or whoever looks at the child, *pulls* it.
//! - A session is *abandoned* when the child is gone before all is copied, and *fails* when
//!   something cannot be copied; then the child is killed. Neither is noticed by the parent.
//!
//! # Life of a session
//!
//! | state     | event                             | who               | under                | next      |
//! |-----------|-----------------------------------|-------------------|----------------------|-----------|
//! | building  | a range is deferred               | `dup_mmap()`      | parent's mmap-W, VMA-W | building |
//! | building  | fork fails, or nothing deferred   | `dup_mmap()`      | the same             | (freed)   |
//! | building  | armed, after the parent's flush   | `dup_mmap()`      | the same, child's mmap-W | live  |
//! | live      | a range is claimed and copied     | child, puller, parent | parent's VMA-R or mmap-R, or stronger | live |
//! | live      | the last range is settled         | who settled it    | claim                | complete  |
//! | live      | the child exits, or is killed     | `do_exit()`, `__mmput()`, parent | nothing, or as a copy | abandoned |
//! | live      | a range cannot be copied          | child, puller, parent | claim                | failed    |
//! | live      | the parent is reaped              | OOM reaper        | parent's mmap-R      | failed    |
//!
//! *building* is the type [`Builder`]; it cannot be reached by anyone else. The last three states
//! are final, and have no range that can be claimed. When a session has ended, who ended it waits
//! for those who are copying, and removes it from the parent's [`Tracker`]. Others need not wait for
//! that: whoever meets a session that is over does the same.
//!
//! # Who waits for whom
//!
//! A claim is a spinlock of the session. From claim to publication nobody sleeps, waits for memory
//! or, but with PREEMPT_RT, is preempted; there the lock passes on the waiter's priority. What a copy
//! lacks it says ([`PageTables::Supplies`]), and gives the range back, partly copied. Who claims it next
//! skips what the child has.
//!
//! A puller also locks the parent's mapping, for as long as it has a claim and only if it is to be
//! had at once. If not, it lets the parent run, and tries again. With PREEMPT_RT who locks the mapping
//! for writing takes the claims, too, so as to lend its priority.
//!
//! So the parent waits for one copy that is going on, or for nothing; and for memory that may be on
//! its way, but not long ([`Patience`]). A child, or who looks at
//! it, may have to wait until the parent has done what it does to its mapping. If that is what it
//! mostly does, it copies for them ([`Tracker::help`]), as far as there is memory.
//!
//! # Lock order
//!
//! ```text
//! child's mmap_lock
//!   child's VMA lock
//! parent's mmap_lock
//!   parent's VMA lock                 (who pushes)
//!     `Session::claims`               (one at a time)
//!       parent's VMA lock             (a puller; only tried)
//!       child's PMD lock              (to install the table)
//!       child's page table lock
//!         parent's page table lock    (the copy)
//!       parent's PMD lock             (publication, repair)
//!         `Session::ends`
//!         `Tracker::sessions`
//! ```
//!
//! A parent is never a pending child at the same time: `dup_mmap()` locks each VMA for writing,
//! which completes it.
//!
//! # Who pays
//!
//! | what                                | when              | memory cgroup        | without memory |
//! |-------------------------------------|-------------------|----------------------|----------------|
//! | tracker, session, bitmap, extents   | in the call       | the forking task's   | copied in the call, counted |
//! | page table                          | before each claim | the forking task's   | the child is killed, or who looks gets `ENOMEM` |
//! | copy of a pinned page               | between claims    | the forking task's   | the same |
//! | count of a swap entry               | between claims    | nobody's, as ever    | the same |
//!
//! The forking task's, as it was at the time of the fork ([`PageTables::Payer`]), whoever copies:
//! child, parent, observer, debugger, kernel thread, exiting task. Nothing calls the OOM killer.
//!
//! # Memory ordering
//!
//! - Protection to copy: `dup_mmap()` protects, flushes, arms, and unlocks the parent's mmap_lock
//!   and VMAs. Copies start after taking one of these.
//! - Copy to use: [`RangeBitmap::settle`] and the state of a session are written with release, and
//!   read with acquire.
//! - Copy to the parent's next write: the parent's PTEs are made read-only before its PMD entry is
//!   made writable, see `async_pgtable_entry_unprotect()`.
//! - Copy to the end of a mapping: who ends a session, or has settled a mapping that is going away,
//!   takes each of `Session::claims` once; who finds no session any more does so with acquire.

pub mod builder;
pub mod page_tables;
pub mod range_bitmap;
pub mod session;
pub mod tracker;

#[cfg(CONFIG_ASYNC_PGTABLE_KUNIT_TEST)]
pub mod fake;

mod claim;
mod extent;
mod ffi;
mod help;
mod patience;
mod pusher;
mod settle;

pub use builder::Builder;
pub use page_tables::PageTables;
pub use patience::Patience;
pub use range_bitmap::RangeBitmap;
pub use session::Session;
pub use tracker::Tracker;
