//! A loss is published once, when it has lasted; its end is published once; an unknown state is no loss.

use proptest::prelude::*;

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use super::super::fixtures::*;
use super::*;
use crate::domain::Timestamp;
use crate::domain::notice::{Notice, Topic};
use crate::domain::reconnect::LinkSigner;

const MINUTE: i64 = 60;

/// The contract's defaults.
fn watch() -> WatchPolicy {
    WatchPolicy::DEFAULT
}

/// A context without outages of its own, whose owner stays.
fn around(outages: &Outages) -> DiffContext<'_> {
    DiffContext { user: uuid(1), customer: Some("C-1"), region: None, is_leaving: false, outages, links: None }
}

/// One poll's answer; letters make a history readable.
fn shown(letter: char, now: Timestamp) -> Observation {
    let base = Observation {
        heat_pump: uuid(3),
        building: Some(uuid(2)),
        manufacturer: Some("Maker".to_owned()),
        model: Some("M1".to_owned()),
        is_authenticated: Some(true),
        updated_at: Some(now),
        ..Observation::default()
    };
    match letter {
        // Connected.
        'c' => base,
        // Lost: the customer must reconnect it.
        'l' => Observation { is_authenticated: Some(false), reconnect_url: Some("https://go".to_owned()), ..base },
        // An error of its life cycle.
        'e' => Observation { has_lifecycle_error: true, ..base },
        // Offline: its state is old.
        'o' => Observation { updated_at: Some(now.minus(DAY)), ..base },
        // Its state is an hour ahead.
        'f' => Observation { updated_at: Some(now.plus(Duration::from_hours(1))), ..base },
        // Nothing is said.
        'u' => Observation { is_authenticated: None, ..base },
        // Never connected.
        'n' => Observation { is_authenticated: Some(false), updated_at: None, ..base },
        // Deleted.
        'd' => Observation { is_deleted: true, ..base },
        // Paused, and its state is old.
        'p' => Observation { is_paused: true, updated_at: Some(now.minus(DAY)), ..base },
        // Connected, in another building.
        'b' => Observation { building: Some(uuid(9)), ..base },
        other => panic!("no such answer: {other}"),
    }
}

/// Polls every ten minutes; gives each notice with its poll, and the memory.
fn history(letters: &str) -> (Vec<(usize, Notice)>, PumpRecord) {
    polled(None, letters, 10 * MINUTE)
}

fn polled(seen: Option<PumpRecord>, letters: &str, every: i64) -> (Vec<(usize, Notice)>, PumpRecord) {
    let outages = Outages::default();
    polled_in(&around(&outages), seen, letters, (0, every))
}

/// The answer `.` means that no poll looked.
fn polled_in(
    around: &DiffContext<'_>,
    mut seen: Option<PumpRecord>,
    letters: &str,
    (first, every): (i64, i64),
) -> (Vec<(usize, Notice)>, PumpRecord) {
    let mut told = Vec::new();
    for (poll, letter) in letters.chars().enumerate().filter(|(_, letter)| *letter != '.') {
        let now = at(1_000_000 + first + i64::try_from(poll).expect("short") * every);
        let change = diff(seen.as_ref(), &shown(letter, now), around, now, &watch());
        told.extend(change.notices.into_iter().map(|notice| (poll, notice)));
        seen = Some(change.seen);
    }
    (told, seen.expect("at least one poll"))
}

/// The polls at which an alert began (`+`) or ended (`-`).
fn marks(told: &[(usize, Notice)]) -> Vec<(usize, char)> {
    let mark = |notice: &Notice| if notice.data["action"] == "trigger" { '+' } else { '-' };
    told.iter().map(|(poll, notice)| (*poll, mark(notice))).collect()
}

/// With a signer the alert of a loss that its owner can mend carries a link of the bridge's own, the same for one loss.
#[test]
fn an_alert_carries_the_link_of_its_own_loss_where_the_owner_can_mend_it() {
    let outages = Outages::default();
    let signer = LinkSigner {
        base_url: "https://heat.example".to_owned(),
        secret: "0123456789abcdef0123456789abcdef".to_owned(),
    };
    let around = DiffContext { links: Some(&signer), ..around(&outages) };
    let policy = WatchPolicy { disconnect_after: Duration::ZERO, disconnect_polls: 1, ..WatchPolicy::DEFAULT };
    let shown = |change: &dyn Fn(&mut Observation)| {
        let mut shown = Observation {
            heat_pump: uuid(2),
            is_authenticated: Some(true),
            updated_at: Some(at(99_000)),
            ..Observation::default()
        };
        change(&mut shown);
        shown
    };
    let before = diff(None, &shown(&|_| ()), &around, at(99_000), &policy).seen;
    let told = |around: &DiffContext<'_>, change: &dyn Fn(&mut Observation)| {
        let change = diff(Some(&before), &shown(change), around, at(99_001), &policy);
        let [trigger] = &change.notices[..] else { panic!("an alert: {change:?}") };
        trigger.data["reconnect_url"].clone()
    };
    let link = json!(signer.link(uuid(2), uuid(1), at(99_001)));
    let lapsed = |seen: &mut Observation| seen.is_authenticated = Some(false);
    assert_eq!([told(&around, &lapsed), told(&around, &lapsed)], [link.clone(), link.clone()]);
    assert_eq!(told(&around, &|seen| seen.wants_reauthentication = true), link);
    let with_page = |seen: &mut Observation| {
        (seen.is_authenticated, seen.reconnect_url) = (Some(false), Some("https://podero.example/a".to_owned()));
    };
    assert_eq!(told(&around, &with_page), link, "the bridge's own goes first");
    assert_eq!(told(&DiffContext { links: None, ..around }, &with_page), json!("https://podero.example/a"));
    let broken = |seen: &mut Observation| seen.has_lifecycle_error = true;
    assert_eq!(told(&around, &broken), json!(null), "its owner cannot mend that");
}

#[test]
fn a_state_from_the_future_is_not_remembered_as_the_newest() {
    let (_, mut seen) = history("cff");
    assert_eq!((seen.knowledge, seen.state_at), (Knowledge::Unknown(Doubt::ClockAhead), Some(at(1_000_000))));
    // Stored by a version that took it for fresh.
    seen.state_at = Some(at(9_000_000_000));
    let outages = Outages::default();
    let later = 30 * MINUTE;
    let (_, seen) = polled_in(&around(&outages), Some(seen), "c", (later, 0));
    assert_eq!(seen.state_at, Some(at(1_000_000 + later)));
}

/// A loss is published once when it has lasted and its end once when it has too.
#[test]
fn a_lasting_loss_and_its_end_are_each_told_once() {
    for (name, letters, expected) in [
        ("always there", "cccccc", &[][..]),
        ("a short loss", "cllc", &[]),
        ("short losses, three times", "cllcllcllc", &[]),
        ("a loss that lasts", "clll", &[(3, '+')]),
        ("a loss that goes on and on", "cllllllll", &[(3, '+')]),
        ("back once is not back", "clllc", &[(3, '+')]),
        ("back for good", "clllccc", &[(3, '+'), (5, '-')]),
        ("back, lost and back", "clllclcc", &[(3, '+'), (7, '-')]),
        ("twice", "clllcclllcc", &[(3, '+'), (5, '-'), (8, '+'), (10, '-')]),
        ("never connected", "nnnnnnnn", &[]),
        ("connected in the end, then lost", "nncnnn", &[(5, '+')]),
        ("state from before the bridge was there", "lll", &[(2, '+')]),
        ("a state that is too old", "ccccooo", &[(6, '+')]),
        ("a state that was too old when the watch began: it may still come", "ooooo", &[]),
        ("and does not", "oooooo", &[(5, '+')]),
        ("a pause", "cpppppppp", &[]),
        ("paused while its state was too old", "ccccooopp", &[(6, '+'), (8, '-')]),
        ("an error", "ceee", &[(3, '+')]),
        ("different troubles are one loss", "cccleo", &[(5, '+')]),
        ("nothing known is no loss", "cuuuuuu", &[]),
        ("nothing known moves no counter of a loss", "clulul", &[(5, '+')]),
        ("nothing known moves no counter of a return", "clllcuuc", &[(3, '+'), (7, '-')]),
        ("a state from the future is no loss", "cffffff", &[]),
        ("and moves no counter of one", "clflfl", &[(5, '+')]),
        ("nor ends it", "clllffffcc", &[(3, '+'), (9, '-')]),
        ("deleted with an open alert", "cllld", &[(3, '+'), (4, '-')]),
        ("deleted without one", "cld", &[]),
        ("deleted for long", "clllddd", &[(3, '+'), (4, '-')]),
    ] {
        assert_eq!(marks(&history(letters).0), expected, "{name}: {letters}");
    }
}

#[test]
fn a_loss_must_be_long_and_seen_often() {
    for (name, every, expected) in [
        ("three polls in two minutes are too short", MINUTE, 15),
        ("ten minutes between polls: the third", 10 * MINUTE, 2),
        ("an hour between polls: what happens again is usual", 60 * MINUTE, 3),
    ] {
        let (told, _) = polled(None, "llllllllllllllllllll", every);
        assert_eq!(marks(&told), [(expected, '+')], "{name}");
    }
}

/// The cause is the one seen when the loss became an alert and does not change.
#[test]
fn the_cause_of_an_alert_does_not_change() {
    for (letters, cause, severity) in [
        ("clll", "needs_reauthentication", "error"),
        ("ceee", "lifecycle_error", "error"),
        ("ccccooo", "device_offline", "warning"),
        ("clee", "lifecycle_error", "error"),
        ("clllooocc", "needs_reauthentication", "error"),
    ] {
        for (_, notice) in history(letters).0 {
            assert_eq!(notice.data["cause"], cause, "{letters}");
            assert_eq!(notice.data["severity"], severity, "{letters}");
            assert!(notice.data["dedup_key"].as_str().is_some_and(|key| key.ends_with(cause)), "{letters}");
        }
    }
}

#[test]
fn a_resolve_names_what_its_trigger_named() {
    let (told, seen) = history("clllcc");
    let [(_, trigger), (_, resolve)] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((trigger.topic, resolve.topic), (Topic::HeatPumpDisconnected, Topic::HeatPumpReconnected));
    for field in ["dedup_key", "occurrence_id", "since", "detected_at", "cause", "heat_pump_id", "customer_id"] {
        assert!(!trigger.data[field].is_null(), "{field}");
        assert_eq!(trigger.data[field], resolve.data[field], "{field}");
    }
    assert_eq!(
        (trigger.order_key.as_str(), trigger.order_key.len()),
        (resolve.order_key.as_str(), "heat-pump/".len() + 36)
    );
    assert_ne!(trigger.id, resolve.id);
    assert_eq!(trigger.data["since"], at(1_000_000 + 10 * MINUTE).to_string());
    assert_eq!(trigger.data["detected_at"], at(1_000_000 + 30 * MINUTE).to_string());
    assert_eq!(trigger.data["reconnect_url"], "https://go");
    assert_eq!(resolve.data["resolution"], "reconnected");
    assert_eq!((seen.alert, seen.bad_polls), (None, 0));
}

#[test]
fn two_losses_of_one_pump_are_two_occurrences_under_one_key() {
    let (told, _) = history("clllcclllcc");
    let of = |place: usize, field: &str| told[place].1.data[field].clone();
    assert_eq!(of(0, "dedup_key"), of(2, "dedup_key"));
    assert_ne!(of(0, "occurrence_id"), of(2, "occurrence_id"));
    let ids: std::collections::BTreeSet<Uuid> = told.iter().map(|(_, notice)| notice.id).collect();
    assert_eq!(ids.len(), 4);
}

#[test]
fn keys_and_summaries_fit_into_the_narrowest_ticketing_tool() {
    let seen = history("c").1;
    for cause in Cause::ALL {
        assert!(dedup_key(Uuid::max(), cause).chars().count() <= 100, "{cause:?}");
        let mut summaries = vec![cause.summary().to_owned()];
        for resolution in Resolution::ALL {
            let severity = Severity::Error;
            let alert = json!({"occurrence": uuid(8), "cause": cause, "severity": severity, "since": at(1), "detected_at": at(2)});
            let open = PumpRecord { alert: serde_json::from_value(alert).expect("reads"), ..seen.clone() };
            let [notice] = &retire(&open, resolution, at(3)).notices[..] else { panic!("one resolve") };
            assert_eq!(notice.data["resolution"], resolution.name());
            summaries.push(notice.data["summary"].as_str().expect("a text").to_owned());
        }
        for summary in summaries {
            assert!((1..=130).contains(&summary.chars().count()), "{summary}");
        }
    }
    let long = Scope::Manufacturer("x".repeat(1_000));
    assert!(long.dedup_key().chars().count() <= 100);
}

#[test]
fn an_alert_of_a_pump_that_is_watched_no_more_is_resolved_once() {
    let (_, lost) = history("clll");
    let first = retire(&lost, Resolution::Moved, at(2_000_000));
    let [notice] = &first.notices[..] else { panic!("the alert was open") };
    assert_eq!((notice.data["resolution"].as_str(), notice.topic), (Some("moved"), Topic::HeatPumpReconnected));
    assert!(first.seen.is_retired);
    assert_eq!(retire(&first.seen, Resolution::Churned, at(2_000_001)).notices, []);
    let (told, still) = polled(Some(first.seen), "llllcc", 10 * MINUTE);
    assert!(told.is_empty() && still.is_retired, "what was left behind is nobody's trouble");
}

#[test]
fn a_retired_pump_that_turns_up_elsewhere_is_watched_from_the_beginning() {
    for resolution in [Resolution::Moved, Resolution::Churned, Resolution::Removed] {
        let retired = retire(&history("clll").1, resolution, at(2_000_000)).seen;
        let version = retired.version;
        let (told, seen) = polled(Some(retired), "b", 10 * MINUTE);
        assert!(told.is_empty(), "{resolution:?}");
        assert_eq!((seen.is_retired, seen.knowledge), (false, Knowledge::Connected), "{resolution:?}");
        assert_eq!((seen.version, seen.building), (version, Some(uuid(9))), "{resolution:?}");
    }
}

/// A pump that was missing from an answer is watched again when it is shown again.
#[test]
fn a_missing_pump_is_watched_again_when_it_is_shown() {
    let removed = retire(&history("cc").1, Resolution::Removed, at(2_000_000)).seen;
    let (told, seen) = polled(Some(removed), "clll", 10 * MINUTE);
    assert_eq!((marks(&told), seen.is_retired), (vec![(3, '+')], false));
    let (told, seen) = polled(None, "cdcclll", 10 * MINUTE);
    assert_eq!((marks(&told), seen.is_retired), (vec![(6, '+')], false), "a deletion that was taken back");
}

#[test]
fn a_pump_keeps_what_an_answer_leaves_out() {
    let (_, seen) = history("c");
    let now = at(2_000_000);
    let sparse = Observation { heat_pump: uuid(3), is_authenticated: Some(true), ..Observation::default() };
    let seen = diff(Some(&seen), &sparse, &around(&Outages::default()), now, &watch()).seen;
    assert_eq!(
        (seen.building, seen.manufacturer, seen.model),
        (Some(uuid(2)), Some("Maker".into()), Some("M1".into()))
    );
}

/// With another owner a pump is watched from the beginning and the other's alert ends.
#[test]
fn a_new_owner_ends_the_alert_and_begins_the_watch() {
    let outages = Outages::default();
    let theirs = DiffContext { user: uuid(4), customer: Some("C-2"), ..around(&outages) };
    let (_, alerted) = history("clll");
    let (told, seen) = polled_in(&theirs, Some(alerted.clone()), "lll", (40 * MINUTE, 10 * MINUTE));
    assert_eq!(marks(&told), [(0, '-'), (2, '+')]);
    assert_eq!((&told[0].1.data["customer_id"], &told[0].1.data["resolution"]), (&json!("C-1"), &json!("moved")));
    assert_eq!((&told[1].1.data["customer_id"], seen.version), (&json!("C-2"), alerted.version));
    // Also in the same home, and after it was left.
    let retired = retire(&alerted, Resolution::Churned, at(2_000_000)).seen;
    let (told, seen) = polled_in(&theirs, Some(retired), "clll", (2_000 * MINUTE, 10 * MINUTE));
    assert_eq!((marks(&told), seen.is_retired), (vec![(3, '+')], false));
    // An unknown home is not another one than a known one.
    let nowhere = PumpRecord { building: None, ..history("c").1 };
    let retired = retire(&nowhere, Resolution::Moved, at(2_000_000)).seen;
    assert!(polled_in(&around(&outages), Some(retired), "c", (2_000 * MINUTE, 10 * MINUTE)).1.is_retired);
}

#[test]
fn the_memory_of_a_pump_reads_back_from_its_stored_form() {
    for letters in ["c", "n", "clll", "cllld", "u", "clclclcl", "p"] {
        let seen = history(letters).1;
        let stored = serde_json::to_string(&seen).expect("serialises");
        assert_eq!(serde_json::from_str::<PumpRecord>(&stored).expect("reads"), seen, "{letters}");
    }
}

#[test]
fn what_was_counted_before_a_break_says_nothing_about_after_it() {
    for (name, letters, expected) in [
        ("two bad looks, an hour of nobody looking, and one more", "cll......l", &[][..]),
        ("after it the loss must last anew", "cll......lll", &[(11, '+')]),
        ("a loss that began while nobody looked", "ccc......lll", &[(11, '+')]),
        ("one poll that failed is no break", "cl.ll", &[(4, '+')]),
        ("an alert that is open stays open", "clll......llll", &[(3, '+')]),
        ("and a return must last anew", "clllc......c", &[(3, '+')]),
        ("state that grew old while nobody looked may still come", "cccc.............ooc", &[]),
        ("and when it does not come it is a loss", "cccc.............oooooo", &[(22, '+')]),
    ] {
        assert_eq!(marks(&history(letters).0), expected, "{name}: {letters}");
    }
}

#[test]
fn a_pump_that_is_lost_again_and_again_is_one_alert_until_it_is_stable() {
    // Lost four times within six hours; each loss alone is too short for an alert.
    let (told, seen) = history("clclclcl");
    assert_eq!(marks(&told), [(7, '+')]);
    assert_eq!((&told[0].1.data["cause"], &told[0].1.data["severity"]), (&json!("unstable"), &json!("warning")));
    assert_eq!(told[0].1.data["since"], at(1_000_000 + 10 * MINUTE).to_string());
    // More of the same, and losses that last, are the same alert.
    let (told, seen) =
        polled_in(&around(&Outages::default()), Some(seen), "clclclllllcccc", (80 * MINUTE, 10 * MINUTE));
    assert_eq!(marks(&told), []);
    // Six hours without a loss.
    let calm = "c".repeat(40);
    let (told, seen) = polled_in(&around(&Outages::default()), Some(seen), &calm, (220 * MINUTE, 10 * MINUTE));
    assert_eq!((marks(&told).len(), &told[0].1.data["resolution"]), (1, &json!("stable")));
    assert_eq!(seen.alert, None);
}

#[test]
fn an_unstable_pump_that_does_not_come_back_gets_the_alert_of_its_loss() {
    let (_, seen) = history("clclclcl");
    let (told, seen) = polled_in(&around(&Outages::default()), Some(seen), &"l".repeat(40), (80 * MINUTE, 10 * MINUTE));
    let marks = marks(&told);
    assert_eq!(marks.iter().map(|(_, mark)| *mark).collect::<String>(), "-+");
    assert_eq!(marks[0].0, marks[1].0, "in one poll");
    assert_eq!(
        (&told[0].1.data["resolution"], &told[1].1.data["cause"]),
        (&json!("lost"), &json!("needs_reauthentication"))
    );
    assert_eq!(seen.alert.expect("open").cause, Cause::NeedsReauthentication);
}

#[test]
fn a_window_without_a_look_makes_no_pump_stable_or_unstable() {
    let (_, unstable) = history("clclclcl");
    // Seven hours of none, then three hours of looks, twice.
    let unseen = ".".repeat(6 * 7);
    let calm = format!("{unseen}{}", "c".repeat(18)).repeat(2);
    let (told, seen) = polled_in(&around(&Outages::default()), Some(unstable), &calm, (80 * MINUTE, 10 * MINUTE));
    assert_eq!(marks(&told), []);
    let (told, _) = polled_in(&around(&Outages::default()), Some(seen), "ccc", (1_280 * MINUTE, 10 * MINUTE));
    assert_eq!(told.iter().map(|(_, notice)| notice.data["resolution"].clone()).collect::<Vec<_>>(), ["stable"]);
    // Three losses before and one after are not four within the window.
    assert_eq!(marks(&history(&format!("clclcl{unseen}clcc")).0), []);
}

#[test]
fn a_pump_that_lists_do_not_name_is_gone_when_they_come_in_a_row() {
    let (_, seen) = history("cc");
    let missed = |seen: &PumpRecord, minute: i64| {
        miss(seen, at(1_000_000 + minute * MINUTE), &watch()).expect("it is newer").seen
    };
    let twice = missed(&missed(&seen, 20), 30);
    assert!(missed(&twice, 40).is_retired);
    let after_a_break = missed(&twice, 300);
    assert_eq!((after_a_break.is_retired, after_a_break.missing_polls), (false, 1));
    assert!(missed(&missed(&after_a_break, 310), 320).is_retired);
    let once_is_enough = WatchPolicy { disconnect_polls: 1, ..watch() };
    let once = miss(&seen, at(1_000_000 + 20 * MINUTE), &once_is_enough).expect("it is newer").seen;
    assert!(!once.is_retired, "one odd answer is no removal");
}

#[test]
fn losses_far_apart_are_no_flapping() {
    let letters = format!("cl{}", format!("{}l", "c".repeat(13)).repeat(8));
    assert_eq!(marks(&history(&letters).0), [], "one every 140 minutes");
}

/// A pump that was never connected is published after days once and its first connection too.
#[test]
fn a_pump_that_was_never_connected_is_told_once_after_days() {
    let day = 24 * 60 / 10;
    let (told, seen) = history(&"n".repeat(7 * day + 3));
    assert_eq!(marks(&told), [(7 * day, '+')]);
    assert_eq!(told[0].1.topic, Topic::HeatPumpNeverConnected);
    assert_eq!((&told[0].1.data["cause"], &told[0].1.data["severity"]), (&json!("never_connected"), &json!("info")));
    let later = i64::try_from(7 * day + 3).expect("small") * 10 * MINUTE;
    let (told, _) = polled_in(&around(&Outages::default()), Some(seen.clone()), "ccc", (later, 10 * MINUTE));
    assert_eq!(marks(&told), [(1, '-')]);
    assert_eq!((told[0].1.topic, &told[0].1.data["resolution"]), (Topic::HeatPumpReconnected, &json!("connected")));
    // Connected between two polls, and lost: the one alert ends, the other begins.
    let (told, _) = polled_in(&around(&Outages::default()), Some(seen), "llll", (later, 10 * MINUTE));
    assert_eq!(marks(&told), [(0, '-'), (2, '+')]);
}

/// Customers who are moving or leaving get no alert and keep the one that is open.
#[test]
fn a_customer_who_moves_or_leaves_gets_no_new_alert() {
    let outages = Outages::default();
    let leaving = DiffContext { is_leaving: true, ..around(&outages) };
    let (told, seen) = polled_in(&leaving, None, "cllllclclclcll", (0, 10 * MINUTE));
    assert_eq!(marks(&told), []);
    // The move was cancelled, and the pump is still lost.
    let (told, _) = polled_in(&around(&outages), Some(seen), "ll", (140 * MINUTE, 10 * MINUTE));
    assert_eq!(marks(&told), [(0, '+')]);
    let (_, open) = history("clll");
    let (told, seen) = polled_in(&leaving, Some(open), "llcc", (40 * MINUTE, 10 * MINUTE));
    assert_eq!(marks(&told), [(3, '-')]);
    assert_eq!(seen.alert, None);
}

/// An outage of the maker of all pumps here.
fn outage(since: Timestamp, is_open: bool) -> Outages {
    let told = outage::AnnouncedState { detected_at: since, severity: Severity::Error, affected: 50, watched: 100 };
    Outages(vec![Outage {
        scope: Scope::Manufacturer("Maker".into()),
        occurrence: uuid(77),
        since,
        held_from: since.minus(Duration::from_mins(11)),
        members_from: since.minus(Duration::from_mins(25)),
        told: is_open.then_some(told),
        calm_since: None,
        began: Some(since),
        gaps: 0,
        judged_at: Some(since),
    }])
}

/// A suspected outage holds its pumps' alerts back and an open one speaks for them.
#[test]
fn an_outage_holds_the_alerts_of_its_pumps_back() {
    let (suspected, open, over) = (outage(at(1_000_900), false), outage(at(1_000_900), true), Outages::default());
    let (told, held) = polled_in(&around(&suspected), None, "clllll", (0, 10 * MINUTE));
    assert_eq!(marks(&told), []);
    // A pump that went long before the others becomes an alert at its own time.
    let later = outage(at(1_000_000 + 25 * MINUTE), false);
    let (told, _) = polled_in(&around(&later), None, "cllll", (0, 10 * MINUTE));
    assert_eq!(marks(&told), [(3, '+')]);
    // The suspicion passes: the pump is judged by itself, at once.
    let (told, _) = polled_in(&around(&over), Some(held.clone()), "l", (60 * MINUTE, 10 * MINUTE));
    assert_eq!(marks(&told), [(0, '+')]);
    // The outage opens: the pump has no further notice.
    let (told, member) = polled_in(&around(&open), Some(held), "lllll", (60 * MINUTE, 10 * MINUTE));
    assert_eq!((marks(&told), member.outage), (vec![], Some(uuid(77))));
    assert!(!member.is_suspect(), "it is not asked for more often than others");
    // The outage ends: a pump that is still away is judged again,
    let (told, _) = polled_in(&around(&over), Some(member.clone()), "lll", (110 * MINUTE, 10 * MINUTE));
    assert_eq!(marks(&told), [(2, '+')]);
    assert_eq!(told[0].1.data["since"], at(1_000_000 + 110 * MINUTE).to_string());
    // and a pump that came back is fine.
    let (told, back) = polled_in(&around(&open), Some(member), "cc", (110 * MINUTE, 10 * MINUTE));
    assert_eq!((marks(&told), back.outage, back.losses.len()), (vec![], None, 0));
}

/// An alert of a pump that went with the others is merged and one from before is not.
#[test]
fn an_alert_that_came_with_an_outage_is_merged() {
    let (_, alerted) = history("clll");
    let open = outage(at(1_000_000 + 20 * MINUTE), true);
    let (told, seen) = polled_in(&around(&open), Some(alerted.clone()), "ll", (40 * MINUTE, 10 * MINUTE));
    assert_eq!(marks(&told), [(0, '-')]);
    assert_eq!((&told[0].1.data["resolution"], seen.alert), (&json!("merged_into_outage"), None));
    let later = outage(at(1_000_000 + 60 * MINUTE), true);
    let (told, seen) = polled_in(&around(&later), Some(alerted), "llll", (40 * MINUTE, 10 * MINUTE));
    assert_eq!((marks(&told), seen.alert.is_some()), (vec![], true));
    // No poll has seen this one connected: it did not go with the others.
    let (told, _) = polled_in(&around(&later), None, "lll", (40 * MINUTE, 10 * MINUTE));
    assert_eq!(marks(&told), [(2, '+')]);
}

/// An unstable pump that an outage took over is a new alert when it is published again.
#[test]
fn an_unstable_pump_after_an_outage_is_a_new_alert() {
    let (_, unstable) = history("clclclcl");
    let open = outage(at(1_000_000 + 60 * MINUTE), true);
    let (told, member) = polled_in(&around(&open), Some(unstable), "l", (80 * MINUTE, 10 * MINUTE));
    assert_eq!(marks(&told), [(0, '-')]);
    let (again, _) = polled_in(&around(&Outages::default()), Some(member), "lclclclcl", (90 * MINUTE, 10 * MINUTE));
    let ids: Vec<&Value> = again.iter().map(|(_, notice)| &notice.data["occurrence_id"]).collect();
    assert_eq!(again[0].1.data["cause"], "unstable");
    assert!(!ids.contains(&&told[0].1.data["occurrence_id"]));
}

#[test]
fn an_outage_that_a_pump_did_not_go_with_hides_none_that_it_did() {
    let mut both = outage(at(1_000_000 + 300 * MINUTE), true);
    let mut region = outage(at(1_000_000 + 20 * MINUTE), true).0.remove(0);
    region.scope = Scope::Region("DE-10".into());
    both.0.push(region);
    let here = DiffContext { region: Some("DE-10"), ..around(&both) };
    assert_eq!(marks(&polled_in(&here, None, "cllllll", (0, 10 * MINUTE)).0), []);
}

#[test]
fn pauses_that_come_again_and_again_are_no_breaks_for_ever() {
    // Ten minutes of looks, then twenty-five without any.
    let letters = format!("c{}", "ll....".repeat(12));
    let (told, _) = polled_in(&around(&Outages::default()), None, &letters, (0, 5 * MINUTE));
    assert_eq!(marks(&told).len(), 1, "a loss is told all the same");
}

#[test]
fn an_outage_of_another_maker_or_a_region_elsewhere_is_not_this_pumps() {
    let mut open = outage(at(1_000_000), true);
    open.0[0].scope = Scope::Manufacturer("Other".into());
    let mut region = outage(at(1_000_000), true);
    region.0[0].scope = Scope::Region("DE-10".into());
    for (outages, here, expected) in
        [(&open, None, vec![(3, '+')]), (&region, Some("DE-99"), vec![(3, '+')]), (&region, Some("DE-10"), vec![])]
    {
        let around = DiffContext { region: here, ..around(outages) };
        assert_eq!(marks(&polled_in(&around, None, "clll", (0, 10 * MINUTE)).0), expected, "{here:?}");
    }
}

#[test]
fn a_memory_from_before_the_watch_knew_more_can_be_read() {
    let old = json!({"heat_pump": uuid(3), "user": uuid(1), "customer": "C-1", "building": null, "manufacturer": null,
        "model": null, "knowledge": {"disconnected": "device_offline"}, "was_connected": true, "bad_polls": 3,
        "bad_since": at(5), "good_polls": 0, "is_retired": false, "version": 4,
        "alert": {"occurrence": uuid(8), "cause": "device_offline", "since": at(5), "detected_at": at(9)}});
    let seen: PumpRecord = serde_json::from_value(old).expect("reads");
    assert_eq!(seen.knowledge, Knowledge::Disconnected(Loss::DeviceOffline));
    let (told, _) = polled(Some(seen), "ccc", 10 * MINUTE);
    assert_eq!(marks(&told), [(1, '-')]);
}

proptest! {
    #[test]
    fn triggers_and_resolves_take_turns_whatever_outages_come_and_go(
        polls in proptest::collection::vec((proptest::sample::select("cccllleoundb".chars().collect::<Vec<_>>()), 0..6u8), 1..80),
    ) {
        let first = at(1_000_000);
        let (mut seen, mut outages, mut told) = (None, Outages::default(), Vec::new());
        for (poll, (letter, change)) in std::iter::once(('c', 0)).chain(polls).enumerate() {
            let now = first.plus(Duration::from_mins(10) * u32::try_from(poll).expect("few"));
            match change {
                0 => outages = Outages::default(),
                1 => outages = outage(now, false),
                2 => outages = outage(now, true),
                _ => {}
            }
            let leaving = DiffContext { is_leaving: change == 3, ..around(&outages) };
            let change = diff(seen.as_ref(), &shown(letter, now), &leaving, now, &watch());
            told.extend(change.notices);
            seen = Some(change.seen);
        }
        let mut open: Option<String> = None;
        let mut ids = std::collections::BTreeSet::new();
        for notice in &told {
            prop_assert!(ids.insert(notice.id), "an id that was used is never told");
            let occurrence = notice.data["occurrence_id"].as_str().expect("an id").to_owned();
            if notice.data["action"] == "trigger" {
                prop_assert_eq!(open.replace(occurrence), None);
            } else {
                prop_assert_eq!(open.take(), Some(occurrence));
            }
        }
        prop_assert_eq!(open.is_some(), seen.expect("polled").alert.is_some());
    }

    #[test]
    fn triggers_and_resolves_take_turns(
        letters in proptest::collection::vec(proptest::sample::select("cccllleopundb.".chars().collect::<Vec<_>>()), 1..60),
        every in 1..40i64,
    ) {
        let letters: String = std::iter::once('c').chain(letters).collect();
        let (told, seen) = polled(None, &letters, every * MINUTE);
        let mut open: Option<String> = None;
        for (poll, notice) in &told {
            let occurrence = notice.data["occurrence_id"].as_str().expect("an id").to_owned();
            if notice.data["action"] == "trigger" {
                prop_assert_eq!(open.replace(occurrence), None, "a second trigger at poll {} of {}", poll, letters);
            } else {
                prop_assert_eq!(open.take(), Some(occurrence), "a resolve of another at poll {} of {}", poll, letters);
            }
        }
        prop_assert_eq!(open.is_some(), seen.alert.is_some());
    }
}

/// One answer that omits a pump is no removal; as many as make a loss are.
#[test]
fn as_many_answers_without_a_pump_as_make_a_loss_remove_it() {
    // An alert is open.
    let (_, mut seen) = history("clll");
    assert!(seen.alert.is_some());
    let mut told = 0;
    let later = at(1_000_000 + 100 * MINUTE);
    for poll in 1..=watch().disconnect_polls {
        let change = miss(&seen, later, &watch()).expect("it was named before");
        told += change.notices.len();
        let is_last = poll == watch().disconnect_polls;
        assert_eq!((change.seen.is_retired, !change.notices.is_empty()), (is_last, is_last), "poll {poll}");
        seen = change.seen;
    }
    assert_eq!(told, 1);
    // Named again in between, the count begins again.
    let (_, seen) = history("c");
    // An answer that was requested before the pump was named, and came late, is no answer.
    assert_eq!(miss(&seen, at(1_000_000), &watch()), None);
    let missed = miss(&seen, later, &watch()).expect("it was named before").seen;
    let (_, named) = polled(Some(missed), "c", 10 * MINUTE);
    assert_eq!(named.missing_polls, 0);
}

mod visibility {
    use super::super::super::partner_health::{CircuitCause, PartnerHealth};
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(600);

    fn second(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000)
    }

    /// A circuit that opened at second 0 and whose probes have failed since, up to `now`.
    fn open(why: CircuitCause, now: i64) -> PartnerHealth {
        let mut health = PartnerHealth::default();
        health.open(second(0), why);
        for at in 1..=now {
            if health.is_probe_due(second(at)) {
                health.open(second(at), why);
            }
        }
        health
    }

    #[test]
    fn blindness_is_told_when_it_has_lasted_and_a_refusal_after_a_minute() {
        let away = CircuitCause::Away;
        let refused = CircuitCause::Refused { status: 401 };
        for (why, patience, cause) in [(away, 600, "podero_away"), (refused, 60, "credentials_refused")] {
            for quiet in [0, 1, patience - 1] {
                assert_eq!(
                    look(None, &open(why, quiet), second(quiet), INTERVAL, &Severities::DEFAULT),
                    None,
                    "{quiet}"
                );
            }
            let change =
                look(None, &open(why, patience), second(patience), INTERVAL, &Severities::DEFAULT).expect("news");
            assert_eq!(change.notice.topic, Topic::WatchBlind);
            let expected = json!({"action": "trigger", "dedup_key": "watch/blind", "severity": "critical",
                "cause": cause, "since": second(0), "detected_at": second(patience), "heat_pump_id": null});
            for (field, value) in expected.as_object().expect("fields") {
                assert_eq!(&change.notice.data[field], value, "{field}");
            }
        }
        // An interval shorter than a minute is the bound for both.
        assert!(look(None, &open(refused, 5), second(5), Duration::from_secs(5), &Severities::DEFAULT).is_some());
    }

    #[test]
    fn pause_after_pause_is_one_blindness_and_one_that_ended_is_none() {
        let mut health = PartnerHealth::default();
        for minute in 0..10 {
            health.pause(second(minute * 60), second(minute * 60 + 59));
            assert_eq!(look(None, &health, second(minute * 60 + 58), INTERVAL, &Severities::DEFAULT), None);
        }
        assert_eq!(
            look(None, &health, second(600), INTERVAL, &Severities::DEFAULT),
            None,
            "just now calls may be made"
        );
        health.pause(second(600), second(659));
        let change = look(None, &health, second(600), INTERVAL, &Severities::DEFAULT).expect("news");
        assert_eq!(change.notice.data["cause"], "rate_limited");
    }

    #[test]
    fn it_is_told_once_and_its_end_once_of_the_same_occurrence() {
        let mut health = open(CircuitCause::Away, 600);
        let trigger = look(None, &health, second(600), INTERVAL, &Severities::DEFAULT).expect("news");
        let told = trigger.blindness.expect("an open alert");
        assert_eq!(look(Some(&told), &health, second(900), INTERVAL, &Severities::DEFAULT), None);
        health.close(second(900));
        let resolve = look(Some(&told), &health, second(900), INTERVAL, &Severities::DEFAULT).expect("news");
        assert_eq!((resolve.notice.topic, resolve.blindness), (Topic::WatchRestored, None));
        assert_eq!(resolve.notice.data["resolution"], "restored");
        assert_eq!(resolve.notice.data["occurrence_id"], trigger.notice.data["occurrence_id"]);
        assert_ne!(resolve.notice.id, trigger.notice.id);
        assert_eq!(look(None, &health, second(900), INTERVAL, &Severities::DEFAULT), None);
        for notice in [&trigger.notice, &resolve.notice] {
            let summary = notice.data["summary"].as_str().expect("text");
            assert!(summary.len() <= 130 && notice.data["dedup_key"].as_str().is_some_and(|key| key.len() <= 100));
        }
    }

    /// Observations of a bridge that was down for an hour are no news before a probe.
    #[test]
    fn after_an_hour_down_nothing_is_news_before_a_probe() {
        let mut health = open(CircuitCause::Away, 300);
        assert_eq!(look(None, &health, second(3_900), INTERVAL, &Severities::DEFAULT), None);
        health.open(second(3_901), CircuitCause::Away);
        let change = look(None, &health, second(3_901), INTERVAL, &Severities::DEFAULT).expect("it is so");
        assert_eq!(change.notice.data["since"], json!(second(0)));
    }
}
