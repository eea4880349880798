//! A claim that comes after an interrupted one: the calls that the process before may have made and recorded nothing of.
//!
//! The state that the interrupted claim began with, or saved last, says which these are: the same decisions lead to the same
//! calls. It saves after each create and after each look-up that shows something new, so there are few.
//!
//! Before: [`crate::domain::rehearsal`]. After: [`crate::domain::acts`], as look-ups show their effects.

use super::Timestamp;
use super::acts::note_unheard;
use super::call::{Call, Repeat};
use super::plan::{Policy, Work};
use super::rehearsal::rehearse;
use super::unheard::{Unheard, UnheardCall};

/// Keeps with the customer each call that the interrupted claim may have made. Does nothing for any other claim, or when it is
/// asked again.
pub fn resume(work: &mut Work, now: Timestamp, policy: &Policy) {
    let Some(before) = work.interrupted.take() else { return };
    let again = Work::new(work.event.clone(), work.tries_from, *before);
    let round = work.customer.unheard.iter().map(|known| known.round).max().unwrap_or_default() + 1;
    for call in rehearse(again, now, policy).calls {
        // The list was saved before any of its pumps was paused.
        if matches!(call, Call::ListHeatPumps { .. }) {
            return;
        }
        if let Some(unheard) = UnheardCall::of(&call) {
            let (event, actor) = (work.event.id, work.actor.clone());
            // A claim before this one may have made it, too: then it is of the later one, in the order of that.
            work.customer
                .unheard
                .retain(|known| known.is_recorded || known.event != event || !known.call.is_repeat_of(&unheard));
            note_unheard(&mut work.customer, Unheard { event, actor, call: unheard, is_recorded: false, round });
        }
        // A create was saved before the next call.
        if matches!(call.repeat(), Repeat::LookFirst(_)) {
            return;
        }
    }
}
