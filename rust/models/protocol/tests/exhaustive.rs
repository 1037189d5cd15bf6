// SPDX-License-Identifier: GPL-2.0

//! Claim: in every state of the models, all properties hold.

use protocol::{
    Family, Mutation,
    explore::{Outcome, explore},
    families,
    task::{PCS, SETTLES, Settle},
};

fn holds(family: Family, mutation: Option<Mutation>) -> Outcome {
    let mut outcome = explore(family, mutation);
    if let Some((property, execution)) = outcome.found.take() {
        panic!("not so: {property}\n{execution}");
    }
    outcome
}

fn report(family: Family, mutation: Option<Mutation>) {
    let (name, ranges, programs) = (family.name, family.ranges, family.scenarios.len());
    let what = match mutation {
        None => String::from("protocol"),
        Some(mutation) => format!("with {mutation:?}:"),
    };
    let outcome = holds(family, mutation);
    println!(
        "model {what} {name}: bound {ranges} x 2 PTEs, {programs} programs, \
         {} states, {} steps, depth {}, {:.1} s",
        outcome.states, outcome.steps, outcome.depth, outcome.seconds,
    );
}

macro_rules! families {
    ($($(#[$attribute:meta])* $family:ident,)*) => {
        $(
            #[test]
            $(#[$attribute])*
            fn $family() {
                report(families::$family(), None);
            }
        )*
    };
}

// What is ignored takes a quarter of a minute and more.
families! {
    changes,
    #[ignore = "long: tools/check-models runs it"]
    collapse,
    devices,
    exits,
    failing_ranges,
    failures,
    holes,
    #[ignore = "long: tools/check-models runs it"]
    migration,
    migration_at_the_end,
    migration_of_generations,
    migration_of_sessions,
    #[ignore = "long: tools/check-models runs it"]
    observed_sessions,
    #[ignore = "long: tools/check-models runs it"]
    pins,
    ranges,
    #[ignore = "long: tools/check-models runs it"]
    reaped,
    reaped_sessions,
    #[ignore = "long: tools/check-models runs it"]
    sessions,
    #[ignore = "long: tools/check-models runs it"]
    writes,
}

/// The reaper waits for who copies before it zaps anything. So what a copy has read is intact or
/// will not be published, whether or not it looks at `MMF_UNSTABLE`.
#[test]
fn the_reaper_need_not_be_noticed() {
    report(families::reaped_sessions(), Some(Mutation::UnstableIgnored));
}

/// The same, with somebody who looks at the child.
#[test]
#[ignore = "long: tools/check-models runs it"]
fn the_reaper_need_not_be_noticed_by_who_looks() {
    report(families::reaped(), Some(Mutation::UnstableIgnored));
}

/// A walk that is told while the page tables are locked waits for what it is told of. So it does
/// not matter when it is told, as long as they are.
#[test]
fn walks_may_be_told_first() {
    let family = families::migration_of_sessions();
    report(family, Some(Mutation::NotedBeforeCopy));
}

/// The models are not small because they stop somewhere: each step of a task is in some execution.
#[test]
#[ignore = "long: tools/check-models runs it"]
fn every_step_is_reached() {
    let small = [
        families::changes,
        families::devices,
        families::failures,
        families::migration_of_sessions,
        families::reaped_sessions,
    ];
    let reached = small.map(|family| holds(family(), None).reached);
    let reached = reached.iter().fold(0, |all, some| all | some);
    let all = (1 << (SETTLES + PCS)) - 1;
    // This one only by a bug.
    let expected = all & !(1 << Settle::Settled as u32);
    assert_eq!(reached, expected, "{:b}", reached ^ expected);
}
