// SPDX-License-Identifier: GPL-2.0

//! What must be so in every state, and at the end.

use stateright::Property;

use crate::{
    Life, Protocol, State,
    page_tables::{CHILDREN, Kind, PAGES, Pmd, RANGES, VAS, ZERO, range_of},
    session::Phase,
    task::{Op, Pc},
};

/// The child has the memory of the fork: all of what is settled, and of the rest what it has.
fn child_is_exact(_: &Protocol, s: &State) -> bool {
    (0..CHILDREN).all(|c| {
        let (child, session) = (&s.children[c], &s.sessions[c]);
        if child.life != Life::Live || child.gone || child.left || session.is_over() {
            return true;
        }
        let exact = (0..VAS).all(|va| {
            let pte = s.mms[c + 1].pte[va];
            let expected = s.expected[c][va];
            if pte.kind == Kind::None {
                return session.is_pending(range_of(va)) || expected.value.is_none();
            }
            s.seen(c + 1, va) == expected.value
                && pte.access == expected.access
                && pte.soft_dirty == expected.soft_dirty
        });
        let zero = (s.mms[c + 1].pte.iter())
            .filter(|pte| pte.kind == Kind::Present && pte.page == ZERO)
            .count();
        exact && (session.pending != 0 || zero == usize::from(s.mms[c + 1].zero_pages))
    })
}

/// What the parent, or a device of its, has written last is what it has.
fn parent_is_exact(_: &Protocol, s: &State) -> bool {
    s.parent_is_dead()
        || s.detached
        || (0..VAS).all(|va| s.seen(0, va).unwrap_or(0) == s.memory[va])
}

/// Each page has as many uses as it counts, and no CPU has a way to a free one.
fn pages_are_counted(model: &Protocol, s: &State) -> bool {
    (0..PAGES as u8).all(|page| {
        let it = s.pages[usize::from(page)];
        let mut uses = s.mapped(page) + it.pins;
        uses += (s.elsewhere >> page & 1) as u8;
        for t in 0..model.tasks(s) {
            let task = &s.tasks[t];
            uses += (task.gather >> page & 1) as u8;
            match model.op(s, t) {
                Some(Op::Pin(..)) if task.pc != Pc::Cow => continue,
                Some(Op::Migrate(_)) if matches!(task.pc, Pc::Leave | Pc::Recheck) => {
                    uses += u8::from(task.a == page + 1);
                }
                _ => {}
            }
            uses += u8::from(task.hold == page + 1);
        }
        it.refs == uses && (it.refs != 0 || !s.is_cached(page))
    })
}

/// A page that is pinned stays with who has pinned it.
fn pins_are_kept(_: &Protocol, s: &State) -> bool {
    (0..PAGES as u8).all(|page| {
        s.pages[usize::from(page)].pins == 0
            || s.pinned >> page & 1 == 0
            || !s.mms[1..]
                .iter()
                .any(|mm| mm.pte.iter().any(|pte| pte.uses(page)))
    })
}

/// At the end no session is left, no lock, no migration, and no protection but those of sessions
/// that ended early and of forks that failed; the next write repairs them.
fn nothing_is_left(model: &Protocol, s: &State) -> bool {
    if !model.all_done(s) {
        return true;
    }
    let locks = s.mms.iter().all(|mm| {
        mm.write == 0
            && mm.read == 0
            && mm.ptl == [0; RANGES]
            && mm.pmd_lock == [0; RANGES]
            && mm.pte.iter().all(|pte| pte.kind != Kind::Migration)
    }) && s.elsewhere_migrating == 0;
    let sessions = (s.sessions.iter())
        .all(|session| session.quiesce().is_some() && !session.present && !session.is_good());
    let early = s.sessions.iter().any(|session| session.is_over())
        || model.family.fork_failures != s.fork_failures;
    let protected = (s.mms.iter()).any(|mm| mm.pmd.contains(&Pmd::Table { write: false }));
    locks && sessions && (early || !protected)
}

/// A session that is complete has a child that need not die, and one that has failed has one that
/// is told so.
fn the_failed_are_killed(model: &Protocol, s: &State) -> bool {
    !model.all_done(s)
        || (0..CHILDREN).all(|c| s.sessions[c].phase != Phase::Failed || s.children[c].killed)
}

/// All of them.
pub fn all() -> Vec<Property<Protocol>> {
    vec![
        Property::always("the child has the memory of the fork", child_is_exact),
        Property::always("the parent has its own memory", parent_is_exact),
        Property::always("no page is free and in use", pages_are_counted),
        Property::always("a pinned page is not shared", pins_are_kept),
        Property::always("nothing is used in a wrong way", |_, s: &State| {
            s.wrong.is_none()
        }),
        Property::always("nothing is left behind", nothing_is_left),
        Property::always("the failed are killed", the_failed_are_killed),
        Property::eventually(
            "everybody comes to an end",
            |model: &Protocol, s: &State| model.all_done(s),
        ),
    ]
}
