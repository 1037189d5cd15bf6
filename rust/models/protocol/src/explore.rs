// SPDX-License-Identifier: GPL-2.0

//! Explores a family, and says how much that was, or what was found.

use std::{fmt::Write, time::Instant};

use stateright::{Checker, HasDiscoveries, Model, Path};

use crate::{Action, Family, Mutation, Protocol, State, task::Call};

/// What became of it.
pub struct Outcome {
    /// Different states.
    pub states: usize,
    /// Steps from them.
    pub steps: usize,
    /// Most steps of an execution.
    pub depth: usize,
    /// How long it took.
    pub seconds: f64,
    /// See [`Protocol::reached`].
    pub reached: u64,
    /// A property that does not hold, and an execution.
    pub found: Option<(&'static str, String)>,
}

/// Goes through all states of a family. Stops at the first property that does not hold.
pub fn explore(family: Family, mutation: Option<Mutation>) -> Outcome {
    let start = Instant::now();
    let checker = Protocol::new(family, mutation)
        .checker()
        .finish_when(HasDiscoveries::AnyFailures);
    // In depth needs less memory, in breadth finds the shortest execution.
    if mutation.is_none() {
        outcome(checker.spawn_dfs().join(), start)
    } else {
        outcome(checker.spawn_bfs().join(), start)
    }
}

fn outcome(checker: impl Checker<Protocol>, start: Instant) -> Outcome {
    let discoveries = checker.discoveries();
    // A state in which something is wrong is also an end.
    let found = (checker.model().properties().iter())
        .find_map(|property| Some((property.name, discoveries.get(property.name)?)));
    Outcome {
        states: checker.unique_state_count(),
        steps: checker.state_count(),
        depth: checker.max_depth(),
        reached: checker.model().reached(),
        seconds: start.elapsed().as_secs_f64(),
        found: found.map(|(name, path)| (name, explain(checker.model(), path.clone()))),
    }
}

/// An execution, one line for each step.
fn explain(model: &Protocol, path: Path<State, Action>) -> String {
    let mut text = String::new();
    let path = path.into_vec();
    let mut last = None;
    for (state, action) in &path {
        if let Some(action) = action {
            let t = usize::from(action.task);
            let task = &state.tasks[t];
            let op = model.op(state, t).expect("takes a step");
            let choice = action.choice;
            let _ = write!(text, "{t} {:?} {op:?} ", model.role(state, t));
            let _ = if task.call == Call::None {
                write!(text, "{:?}", task.pc)
            } else {
                let (session, range, at) = (task.slot, task.cursor, task.at);
                write!(
                    text,
                    "{:?}::{:?} session {session} range {range} pte {at}",
                    task.call, task.settle
                )
            };
            let _ = writeln!(text, " choice {choice}");
        }
        last = Some(state);
    }
    if let Some(state) = last {
        let _ = writeln!(text, "wrong: {:?}", state.wrong);
        let _ = writeln!(text, "{state:?}");
    }
    text
}
