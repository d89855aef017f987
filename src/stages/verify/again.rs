//! An action that was carried out and did not help is a new fact: the investigation looks again, once for each. Pure.

use crate::model::{Again, Approval, Card, Investigation, InvestigationState};

/// Turns that a further look needs at the least: a report, and the review of it.
const TURNS_MIN: u32 = 2;

/// The investigation as it is to look again, if turns are left; None where nothing is new to it.
///
/// It follows from what is stored alone: whenever a process ends between an outcome and this, the next one finds the same.
pub(super) fn taken_up(card: &Card, turns_max: u32) -> Option<Investigation> {
    let ended = &card.incident.investigation;
    // Where no model looked none looks again; one that looks now is let finish first.
    let is_over = matches!(ended.state, InvestigationState::Done | InvestigationState::Failed { .. });
    let has_room = ended.turns.saturating_add(TURNS_MIN) <= turns_max;
    let unseen: Vec<Again> = card
        .approvals
        .iter()
        .rev()
        .filter(|approval| is_new(approval, ended))
        .map(|approval| Again { after: approval.id.clone(), from_turn: ended.turns, answered: false })
        .collect();
    // Without room what it said is in doubt all the same.
    let (state, started_at) = match has_room {
        // Each look has its own time; turns, calls and tokens are those of the incident.
        true => (InvestigationState::Waiting, None),
        false => (ended.state.clone(), ended.started_at),
    };
    (is_over && !unseen.is_empty()).then(|| Investigation {
        state,
        started_at,
        again: ended.again.iter().cloned().chain(unseen).collect(),
        ..ended.clone()
    })
}

/// Whether the last look began before this was known, and none was begun for it.
fn is_new(approval: &Approval, ended: &Investigation) -> bool {
    let Some((at, _)) = approval.in_vain() else { return false };
    ended.started_at.is_none_or(|began| at >= began) && ended.again.iter().all(|again| again.after != approval.id)
}
