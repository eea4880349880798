//! A loss is told once, when it has lasted; its end is told once; what is not known is no loss.

use proptest::prelude::*;

use super::super::fixtures::*;
use super::*;

const MINUTE: i64 = 60;

/// The contract's defaults.
fn watch() -> WatchPolicy {
    WatchPolicy {
        disconnect_after: Duration::from_secs(15 * 60),
        disconnect_polls: 3,
        reconnect_polls: 2,
        stale_after: Duration::from_secs(2 * 60 * 60),
    }
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
        // Nothing is said.
        'u' => Observation { is_authenticated: None, ..base },
        // Never connected.
        'n' => Observation { is_authenticated: Some(false), updated_at: None, ..base },
        // Deleted.
        'd' => Observation { is_deleted: true, ..base },
        // Connected, in another building.
        'b' => Observation { building: Some(uuid(9)), ..base },
        other => panic!("no such answer: {other}"),
    }
}

/// Polls every ten minutes; gives what was told at which poll, and the memory.
fn history(letters: &str) -> (Vec<(usize, Notice)>, Seen) {
    polled(None, letters, 10 * MINUTE)
}

fn polled(mut seen: Option<Seen>, letters: &str, every: i64) -> (Vec<(usize, Notice)>, Seen) {
    let mut told = Vec::new();
    for (poll, letter) in letters.chars().enumerate() {
        let now = at(1_000_000 + i64::try_from(poll).expect("short") * every);
        let change = diff(seen.as_ref(), (uuid(1), Some("C-1")), &shown(letter, now), now, &watch());
        told.extend(change.notice.map(|notice| (poll, notice)));
        seen = Some(change.seen);
    }
    (told, seen.expect("at least one poll"))
}

/// The polls at which an alert began (`+`) or ended (`-`).
fn marks(told: &[(usize, Notice)]) -> Vec<(usize, char)> {
    let mark = |notice: &Notice| if notice.data["action"] == "trigger" { '+' } else { '-' };
    told.iter().map(|(poll, notice)| (*poll, mark(notice))).collect()
}

#[test]
fn the_strongest_signal_says_what_is_known() {
    use Cause::{DeviceOffline, LifecycleError, NeedsReauthentication};
    let now = at(1_000_000);
    let fine = shown('c', now);
    let state = |age: Duration| Observation { updated_at: Some(now.minus(age)), ..fine.clone() };
    let stale = watch().stale_after;
    for (name, observation, expected) in [
        ("connected", fine.clone(), Knowledge::Connected),
        ("never any state", Observation { updated_at: None, ..fine.clone() }, Knowledge::Connected),
        ("just fresh", state(stale), Knowledge::Connected),
        ("just stale", state(stale + Duration::from_micros(1)), Knowledge::Disconnected(DeviceOffline)),
        (
            "a state from the future",
            Observation { updated_at: Some(now.plus(DAY)), ..fine.clone() },
            Knowledge::Connected,
        ),
        (
            "not authenticated",
            Observation { is_authenticated: Some(false), ..fine.clone() },
            Knowledge::Disconnected(NeedsReauthentication),
        ),
        (
            "asks to be re-authenticated",
            Observation { wants_reauthentication: true, ..fine.clone() },
            Knowledge::Disconnected(NeedsReauthentication),
        ),
        (
            "asks, and does not say the rest",
            Observation { wants_reauthentication: true, is_authenticated: None, ..fine.clone() },
            Knowledge::Disconnected(NeedsReauthentication),
        ),
        (
            "an error",
            Observation { has_lifecycle_error: true, ..fine.clone() },
            Knowledge::Disconnected(LifecycleError),
        ),
        (
            "an error, and not authenticated",
            Observation { has_lifecycle_error: true, is_authenticated: Some(false), ..fine.clone() },
            Knowledge::Disconnected(NeedsReauthentication),
        ),
        ("not said", Observation { is_authenticated: None, ..state(DAY) }, Knowledge::Unknown),
        ("nothing at all", Observation::default(), Knowledge::Unknown),
        (
            "deleted, whatever else",
            Observation { is_deleted: true, is_authenticated: Some(false), ..fine },
            Knowledge::Gone,
        ),
    ] {
        assert_eq!(knowledge(&observation, now, &watch()), expected, "{name}");
    }
}

#[test]
fn a_loss_is_told_once_when_it_has_lasted_and_its_end_once_when_it_has_too() {
    for (name, letters, expected) in [
        ("always there", "cccccc", &[][..]),
        ("a short loss", "cllc", &[]),
        ("short losses again and again", "cllcllcllcll", &[]),
        ("a loss that lasts", "clll", &[(3, '+')]),
        ("a loss that goes on and on", "cllllllll", &[(3, '+')]),
        ("back once is not back", "clllc", &[(3, '+')]),
        ("back for good", "clllccc", &[(3, '+'), (5, '-')]),
        ("back, lost and back", "clllclcc", &[(3, '+'), (7, '-')]),
        ("twice", "clllcclllcc", &[(3, '+'), (5, '-'), (8, '+'), (10, '-')]),
        ("never connected", "nnnnnnnn", &[]),
        ("connected in the end, then lost", "nncnnn", &[(5, '+')]),
        ("state from before the bridge was there", "lll", &[(2, '+')]),
        ("a state that is too old", "cooo", &[(3, '+')]),
        ("an error", "ceee", &[(3, '+')]),
        ("different troubles are one loss", "cleo", &[(3, '+')]),
        ("nothing known is no loss", "cuuuuuu", &[]),
        ("nothing known moves no counter of a loss", "clulul", &[(5, '+')]),
        ("nothing known moves no counter of a return", "clllcuuc", &[(3, '+'), (7, '-')]),
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
        ("an hour between polls: long enough at once, and yet the third", 60 * MINUTE, 2),
    ] {
        let (told, _) = polled(None, "llllllllllllllllllll", every);
        assert_eq!(marks(&told), [(expected, '+')], "{name}");
    }
}

#[test]
fn the_cause_is_what_was_seen_when_the_loss_became_an_alert_and_does_not_change() {
    for (letters, cause, severity) in [
        ("clll", "needs_reauthentication", "error"),
        ("ceee", "lifecycle_error", "error"),
        ("cooo", "device_offline", "warning"),
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
    assert_eq!((trigger.line.as_str(), trigger.line.len()), (resolve.line.as_str(), "heat-pump/".len() + 36));
    assert_ne!(trigger.id, resolve.id);
    assert_eq!(trigger.data["since"], at(1_000_000 + 10 * MINUTE).to_string());
    assert_eq!(trigger.data["detected_at"], at(1_000_000 + 30 * MINUTE).to_string());
    assert_eq!(trigger.data["reconnect_url"], "https://go");
    assert_eq!(resolve.data["resolution"], "reconnected");
    assert_eq!((seen.alert, seen.bad_polls, seen.good_polls), (None, 0, 0));
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
    for cause in [Cause::NeedsReauthentication, Cause::LifecycleError, Cause::DeviceOffline] {
        assert!(dedup_key(Uuid::max(), cause).chars().count() <= 100, "{cause:?}");
        let (occurrence, since, detected_at) = (uuid(8), at(1), at(2));
        let alert = OpenAlert { occurrence, cause, since, detected_at };
        let mut summaries = vec![cause.summary().to_owned()];
        for resolution in [Resolution::Reconnected, Resolution::Churned, Resolution::Moved, Resolution::Removed] {
            let notice = resolve(&seen, &alert, resolution, at(3));
            assert_eq!(notice.data["resolution"], resolution.name());
            summaries.push(notice.data["summary"].as_str().expect("a text").to_owned());
        }
        for summary in summaries {
            assert!((1..=130).contains(&summary.chars().count()), "{summary}");
        }
    }
}

#[test]
fn an_alert_of_a_pump_that_is_watched_no_more_is_resolved_once() {
    let (_, lost) = history("clll");
    let first = retire(&lost, Resolution::Moved, at(2_000_000));
    let notice = first.notice.expect("the alert was open");
    assert_eq!((notice.data["resolution"].as_str(), notice.topic), (Some("moved"), Topic::HeatPumpReconnected));
    assert!(first.seen.is_retired);
    assert_eq!(retire(&first.seen, Resolution::Churned, at(2_000_001)).notice, None);
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

#[test]
fn a_pump_that_was_missing_from_an_answer_is_watched_again_when_it_is_shown_again() {
    let removed = retire(&history("cc").1, Resolution::Removed, at(2_000_000)).seen;
    let (told, seen) = polled(Some(removed), "clll", 10 * MINUTE);
    assert_eq!((marks(&told), seen.is_retired), (vec![(3, '+')], false));
    let (told, seen) = polled(None, "cdcclll", 10 * MINUTE);
    assert_eq!((marks(&told), seen.is_retired), (vec![(6, '+')], false), "a deletion that was taken back");
}

#[test]
fn a_pump_follows_its_owner_and_keeps_what_an_answer_leaves_out() {
    let (_, seen) = history("c");
    let now = at(2_000_000);
    let sparse = Observation { heat_pump: uuid(3), is_authenticated: Some(true), ..Observation::default() };
    let seen = diff(Some(&seen), (uuid(4), None), &sparse, now, &watch()).seen;
    assert_eq!((seen.user, seen.customer), (uuid(4), None));
    assert_eq!(
        (seen.building, seen.manufacturer, seen.model),
        (Some(uuid(2)), Some("Maker".into()), Some("M1".into()))
    );
}

#[test]
fn the_memory_of_a_pump_reads_back_from_its_stored_form() {
    for letters in ["c", "n", "clll", "cllld"] {
        let seen = history(letters).1;
        let stored = serde_json::to_string(&seen).expect("serialises");
        assert_eq!(serde_json::from_str::<Seen>(&stored).expect("reads"), seen, "{letters}");
    }
}

proptest! {
    #[test]
    fn triggers_and_resolves_take_turns(
        letters in proptest::collection::vec(proptest::sample::select("cccllleoundb".chars().collect::<Vec<_>>()), 1..60),
        every in 1..40i64,
    ) {
        let letters: String = letters.into_iter().collect();
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

#[test]
fn one_answer_that_does_not_name_a_pump_is_no_removal_and_as_many_as_make_a_loss_are() {
    // An alert is open.
    let (_, mut seen) = history("clll");
    assert!(seen.alert.is_some());
    let mut told = 0;
    let later = at(1_000_000 + 100 * MINUTE);
    for poll in 1..=watch().disconnect_polls {
        let change = miss(&seen, later, &watch()).expect("it was named before");
        told += usize::from(change.notice.is_some());
        let is_last = poll == watch().disconnect_polls;
        assert_eq!((change.seen.is_retired, change.notice.is_some()), (is_last, is_last), "poll {poll}");
        seen = change.seen;
    }
    assert_eq!(told, 1);
    // Named again in between, the count begins anew.
    let (_, seen) = history("c");
    // An answer that was asked for before it was named, and came late, is no answer.
    assert_eq!(miss(&seen, at(1_000_000), &watch()), None);
    let missed = miss(&seen, later, &watch()).expect("it was named before").seen;
    let (_, named) = polled(Some(missed), "c", 10 * MINUTE);
    assert_eq!(named.missing_polls, 0);
}

mod sight {
    use super::super::super::standing::Standing;
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(600);

    fn second(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000)
    }

    /// A circuit that opened at second 0 and whose probes have failed since, up to `now`.
    fn open(why: Why, now: i64) -> Standing {
        let mut standing = Standing::default();
        standing.open(second(0), why);
        for at in 1..=now {
            if standing.is_probe_due(second(at)) {
                standing.open(second(at), why);
            }
        }
        standing
    }

    #[test]
    fn blindness_is_told_when_it_has_lasted_and_a_refusal_after_a_minute() {
        let away = Why::Away;
        let refused = Why::Refused { status: 401 };
        for (why, patience, cause) in [(away, 600, "podero_away"), (refused, 60, "credentials_refused")] {
            for quiet in [0, 1, patience - 1] {
                assert_eq!(look(None, &open(why, quiet), second(quiet), INTERVAL), None, "{quiet}");
            }
            let change = look(None, &open(why, patience), second(patience), INTERVAL).expect("news");
            assert_eq!(change.notice.topic, Topic::WatchBlind);
            let expected = json!({"action": "trigger", "dedup_key": "watch/blind", "severity": "critical",
                "cause": cause, "since": second(0), "detected_at": second(patience), "heat_pump_id": null});
            for (field, value) in expected.as_object().expect("fields") {
                assert_eq!(&change.notice.data[field], value, "{field}");
            }
        }
        // An interval shorter than a minute is the bound for both.
        assert!(look(None, &open(refused, 5), second(5), Duration::from_secs(5)).is_some());
    }

    #[test]
    fn pause_after_pause_is_one_blindness_and_one_that_ended_is_none() {
        let mut standing = Standing::default();
        for minute in 0..10 {
            standing.pause(second(minute * 60), second(minute * 60 + 59));
            assert_eq!(look(None, &standing, second(minute * 60 + 58), INTERVAL), None);
        }
        assert_eq!(look(None, &standing, second(600), INTERVAL), None, "just now calls may be made");
        standing.pause(second(600), second(659));
        let change = look(None, &standing, second(600), INTERVAL).expect("news");
        assert_eq!(change.notice.data["cause"], "rate_limited");
    }

    #[test]
    fn it_is_told_once_and_its_end_once_of_the_same_occurrence() {
        let mut standing = open(Why::Away, 600);
        let trigger = look(None, &standing, second(600), INTERVAL).expect("news");
        let told = trigger.blindness.expect("an open alert");
        assert_eq!(look(Some(&told), &standing, second(900), INTERVAL), None);
        standing.close(second(900));
        let resolve = look(Some(&told), &standing, second(900), INTERVAL).expect("news");
        assert_eq!((resolve.notice.topic, resolve.blindness), (Topic::WatchRestored, None));
        assert_eq!(resolve.notice.data["resolution"], "restored");
        assert_eq!(resolve.notice.data["occurrence_id"], trigger.notice.data["occurrence_id"]);
        assert_ne!(resolve.notice.id, trigger.notice.id);
        assert_eq!(look(None, &standing, second(900), INTERVAL), None);
        for notice in [&trigger.notice, &resolve.notice] {
            let summary = notice.data["summary"].as_str().expect("text");
            assert!(summary.len() <= 130 && notice.data["dedup_key"].as_str().is_some_and(|key| key.len() <= 100));
        }
    }

    #[test]
    fn what_a_bridge_left_behind_that_was_down_for_an_hour_is_no_news_before_a_probe() {
        let mut standing = open(Why::Away, 300);
        assert_eq!(look(None, &standing, second(3_900), INTERVAL), None);
        standing.open(second(3_901), Why::Away);
        let change = look(None, &standing, second(3_901), INTERVAL).expect("it is so");
        assert_eq!(change.notice.data["since"], json!(second(0)));
    }
}
