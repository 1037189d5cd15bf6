// SPDX-License-Identifier: GPL-2.0

//! Claim: the models find each of the planted bugs, by the property that it breaks.

use protocol::{Family, Hook, Mutation, explore::explore, families};

const CHILD: &str = "the child has the memory of the fork";
const PARENT: &str = "the parent has its own memory";
const COUNT: &str = "no page is free and in use";
const PINS: &str = "a pinned page is not shared";
const END: &str = "everybody comes to an end";
const LEFT: &str = "nothing is left behind";
const USE: &str = "nothing is used in a wrong way";

fn finds(mutation: Mutation, family: Family, expected: &str) {
    let name = family.name;
    let outcome = explore(family, Some(mutation));
    let bug = match mutation {
        Mutation::Without(hook) => format!("without hook {}", hook.name()),
        other => format!("{other:?}"),
    };
    let Some((property, execution)) = outcome.found else {
        panic!("bug {bug} not found by {name} in {} states", outcome.states);
    };
    if std::env::var_os("EXECUTIONS").is_some() {
        println!("{execution}");
    }
    assert_eq!(property, expected, "by bug {bug}:\n{execution}");
    let wrong = (execution.lines())
        .find_map(|line| line.strip_prefix("wrong: Some("))
        .map_or(String::new(), |wrong| format!(" ({}", wrong));
    println!(
        "bug protocol {bug}: found by {name}, {} steps: not so: {property}{wrong}",
        execution.lines().count() - 2,
    );
}

/// What a hook of `ci/hooks` is here. `None`: without it somebody else pays, or who looks at a
/// child gets another error, or ends it, or a hole reads as zeroes; the copies are the same.
fn kind(name: &str) -> Option<&str> {
    match name {
        "fault:pull" => Some("walk:pull"),
        "guard_install:push" | "guard_remove:push" => Some("guard:push"),
        "leave:push" => Some("exit:push"),
        "clear_refs:pull" | "khugepaged:pull" | "ksm:pull" | "ksm_unmerge:pull"
        | "ksm_unmerge:push" | "madvise:pull" | "madvise:push" | "move_pages:pull"
        | "mbind:push" | "move_pages:push" | "pages_status:pull" | "uffd_register:pull"
        | "numa_hints:push" | "vma_write:push" | "fill:push" => None,
        other => Some(other),
    }
}

macro_rules! hooks {
    ($($test:ident $hook:ident $family:ident $property:ident,)*) => {
        $(
            #[test]
            fn $test() {
                finds(Mutation::Without(Hook::$hook), families::$family(), $property);
            }
        )*

        /// Each kind of hook in `ci/hooks` is planted, and no other.
        #[test]
        fn all_hooks() {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../ci/hooks");
            let text = std::fs::read_to_string(path).expect("ci/hooks");
            let mut names: Vec<_> = (text.lines())
                .filter(|line| !line.starts_with('#') && !line.contains("\t-\t"))
                .filter_map(|line| kind(line.split('\t').next()?))
                .collect();
            names.sort();
            names.dedup();
            let mut planted = [$(Hook::$hook),*].map(Hook::name);
            planted.sort();
            assert_eq!(names, planted);
            let mut all = Hook::ALL.map(Hook::name);
            all.sort();
            assert_eq!(all, planted);
        }
    };
}

macro_rules! bugs {
    ($($test:ident $mutation:ident $family:ident $property:ident,)*) => {
        $(
            #[test]
            fn $test() {
                finds(Mutation::$mutation, families::$family(), $property);
            }
        )*
    };
}

hooks! {
    hook_clear_refs ClearRefs changes CHILD,
    hook_collapse Collapse collapse USE,
    hook_discard Discard changes CHILD,
    hook_exit Exit exits USE,
    hook_fault Fault writes CHILD,
    hook_folio_walk FolioWalk changes USE,
    hook_guard Guard changes CHILD,
    hook_gup Gup writes CHILD,
    hook_gup_fast GupFast pins CHILD,
    hook_khugepaged Khugepaged collapse USE,
    hook_ksm Ksm collapse CHILD,
    hook_merge Merge changes USE,
    hook_migration Migration migration_of_sessions USE,
    hook_mprotect Mprotect changes CHILD,
    hook_mremap Mremap changes CHILD,
    hook_munmap Munmap changes END,
    hook_notifier Notifier devices CHILD,
    hook_oom Oom reaped CHILD,
    hook_split Split changes USE,
    hook_uffd_move UffdMove holes CHILD,
    hook_uffd_register UffdRegister holes CHILD,
    hook_vma_write VmaWrite changes USE,
    hook_walk Walk writes USE,
}

bugs! {
    abandoned_goes_on AbandonedGoesOn writes USE,
    abandoned_without_waiting AbandonedWithoutWaiting writes USE,
    abort_does_not_wait AbortDoesNotWait reaped USE,
    busy_asked_once BusyAskedOnce collapse USE,
    claim_over_pause ClaimOverPause changes END,
    claim_over_sleep ClaimOverSleep writes USE,
    claim_without_lock ClaimWithoutLock writes USE,
    claim_without_looking ClaimWithoutLooking holes USE,
    completed_without_waiting CompletedWithoutWaiting ranges USE,
    exit_does_not_wait ExitDoesNotWait exits USE,
    exit_zaps_first ExitZapsFirst exits CHILD,
    failed_without_waiting FailedWithoutWaiting failing_ranges USE,
    flush_after_arm FlushAfterArm writes CHILD,
    half_a_copy_is_published HalfACopyIsPublished writes CHILD,
    last_range_does_not_end LastRangeDoesNotEnd writes LEFT,
    lift_before_copy LiftBeforeCopy writes CHILD,
    lift_before_publish LiftBeforePublish sessions CHILD,
    lift_for_all LiftForAll sessions CHILD,
    lift_outside_lock LiftOutsideLock sessions LEFT,
    mark_ignored MarkIgnored pins CHILD,
    mark_late MarkLate pins CHILD,
    munmap_settles_late MunmapSettlesLate changes CHILD,
    no_flush NoFlush writes CHILD,
    not_lifted NotLifted changes LEFT,
    noted_after_unlock NotedAfterUnlock migration_of_sessions USE,
    noted_before_lock NotedBeforeLock migration_of_sessions USE,
    pins_ignored PinsIgnored pins PINS,
    push_does_not_wait PushDoesNotWait writes PARENT,
    push_ignores_the_ended PushIgnoresTheEnded writes USE,
    push_skips_a_session PushSkipsASession sessions USE,
    repair_forgotten RepairForgotten writes USE,
    resumed_copy_copies_twice ResumedCopyCopiesTwice writes COUNT,
    retry_if_restored RetryIfRestored migration_of_generations USE,
    sequence_ignored SequenceIgnored pins CHILD,
    walk_begun_late WalkBegunLate migration_of_sessions USE,
    walk_begun_once WalkBegunOnce migration_of_sessions USE,
}
