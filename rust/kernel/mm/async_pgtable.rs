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
//! - A range is *pending* until somebody *claims* it in order to copy it, and *settled* from then
//!   on that the child has it, or that nobody needs it any more.
//! - To *settle* a range is to copy it, or to find it copied. The parent *pushes* it before it
//!   changes it; the child, or whoever looks at the child, *pulls* it.
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
//! | live      | the last range is settled         | who settled it    | nothing              | complete  |
//! | live      | the child exits or execs          | `__mmput()`       | nothing              | abandoned |
//! | live      | a copy fails                      | who copied        | as for the copy      | failed    |
//! | live      | the parent is reaped              | OOM reaper        | parent's mmap-R      | failed    |
//!
//! *building* is the type [`Builder`]; it cannot be reached by anyone else. The last three states
//! are final, and have no claimable range.
//!
//! # Life of a range
//!
//! | state   | event                             | next    |
//! |---------|-----------------------------------|---------|
//! | pending | [`RangeBitmap::try_claim`]        | claimed |
//! | pending | [`RangeBitmap::abandon_pending`]  | settled |
//! | claimed | [`RangeBitmap::publish`]          | settled |
//! | claimed | [`RangeBitmap::unclaim`]          | pending |
//!
//! # Lock order
//!
//! ```text
//! child's mmap_lock
//!   child's VMA lock
//!     parent's mmap_lock                  (a puller; nested, subclass 2)
//!       parent's VMA lock
//!         claim of a range                (may allocate; takes no lock of the lines above)
//!           child's page table lock
//!             parent's page table lock    (the copy)
//!           parent's PMD lock             (publication, repair)
//!             `Tracker::sessions`
//!               `Session::ends`
//!                 `sighand->siglock`      (to kill the child)
//!           `Wait::lock`                  (after publication)
//! ```
//!
//! A claim is only taken by somebody who already keeps the parent's mapping in place, and is held
//! for the copy of one range. So whoever waits for a claim, under whatever locks, waits for one
//! range, and for nobody who waits for him.
//!
//! A parent is never a pending child at the same time: `dup_mmap()` locks each VMA for writing,
//! which completes it. So "child before parent" is an order.
//!
//! # Memory ordering
//!
//! - Protection to copy: `dup_mmap()` protects, flushes, arms, and unlocks the parent's mmap_lock
//!   and VMAs. Copies start after taking one of these.
//! - Copy to use: PTEs are written under page table locks; [`RangeBitmap::publish`] is a release,
//!   every look at a range's state an acquire.
//! - Copy to the parent's next write: the parent's PTEs are made read-only before its PMD entry is
//!   made writable, see `async_pgtable_entry_unprotect()`.
//! - Publication to sleep: see `Session::settled` and `Wait::wake`.

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
mod wait;

pub use builder::Builder;
pub use page_tables::PageTables;
pub use range_bitmap::RangeBitmap;
pub use session::Session;
pub use tracker::Tracker;
