//! Many at once are one outage, published once, and its end once; few, or many one after the other, are none.

use super::super::super::fixtures::at;
use super::*;

const POLICY: WatchPolicy = WatchPolicy::DEFAULT;

fn maker() -> Scope {
    Scope::Manufacturer("Maker & Söhne".to_owned())
}

fn count(lost: u64, watched: u64) -> Count {
    Count { scope: maker(), lost, confirmed: lost, watched }
}

/// Judges one count a minute; gives each notice with its minute, and the outage that is left.
fn minutes(counts: &[(u64, u64, usize)]) -> (Vec<(usize, Notice)>, Option<Outage>) {
    let (mut told, mut outage) = (Vec::new(), None);
    let each = counts.iter().flat_map(|(lost, watched, minutes)| std::iter::repeat_n((*lost, *watched), *minutes));
    for (minute, (lost, watched)) in each.enumerate() {
        let now = at(1_000_000 + 60 * i64::try_from(minute).expect("short"));
        let (after, notice) = judge(outage.as_ref(), &count(lost, watched), &Looks::default(), now, &POLICY);
        told.extend(notice.map(|notice| (minute, notice)));
        outage = after;
    }
    (told, outage)
}

fn marks(told: &[(usize, Notice)]) -> Vec<(usize, &'static str)> {
    told.iter().map(|(minute, notice)| (*minute, notice.topic.name())).collect()
}

const STARTED: &str = "fleet.outage_started";
const ENDED: &str = "fleet.outage_ended";

#[test]
fn many_at_once_are_one_outage_from_its_suspicion_to_its_end() {
    for (name, counts, expected) in [
        ("nobody", &[(0, 0, 60)][..], &[][..]),
        ("too few for an outage", &[(19, 20, 60)], &[]),
        ("too small a share", &[(29, 100, 60)], &[]),
        ("many, and it lasts", &[(0, 100, 5), (30, 100, 60)], &[(15, STARTED)]),
        ("many, and it passes", &[(50, 100, 9), (0, 100, 60)], &[]),
        ("twice too short", &[(50, 100, 9), (0, 100, 1), (50, 100, 9), (0, 100, 9)], &[]),
        ("all come back", &[(90, 100, 30), (3, 100, 60)], &[(10, STARTED), (35, ENDED)]),
        ("half of the share is not the end", &[(90, 100, 30), (15, 100, 200)], &[(10, STARTED)]),
        ("it comes and goes", &[(90, 100, 30), (2, 100, 4), (90, 100, 9), (2, 100, 4), (90, 100, 9)], &[(10, STARTED)]),
        (
            "some stay away: after two hours they are judged alone",
            &[(900, 1_000, 30), (100, 1_000, 200)],
            &[(10, STARTED), (150, ENDED)],
        ),
        ("all are removed", &[(90, 100, 30), (0, 0, 60)], &[(10, STARTED), (35, ENDED)]),
        (
            "one after the other",
            &[(90, 100, 30), (0, 100, 30), (90, 100, 30)],
            &[(10, STARTED), (35, ENDED), (70, STARTED)],
        ),
    ] {
        assert_eq!(marks(&minutes(counts).0), expected, "{name}");
    }
}

#[test]
fn what_polls_saw_before_nobody_looked_makes_and_ends_no_outage() {
    let minute = |minute: i64| at(1_000_000 + 60 * minute);
    let step =
        |before: Option<&Outage>, lost, now| judge(before, &count(lost, 100), &Looks::default(), minute(now), &POLICY);
    let (suspicion, _) = step(None, 50, 0);
    // The rows are as they were when the bridge stopped, ten minutes ago.
    let (still, told) = step(suspicion.as_ref(), 50, 11);
    assert_eq!(told, None);
    let (mut outage, mut told) = (still, None);
    for now in 12..=21 {
        assert_eq!(told, None, "{now}");
        (outage, told) = step(outage.as_ref(), 50, now);
    }
    assert_eq!(told.expect("it has lasted").topic, Topic::FleetOutageStarted);
    let (calm, _) = step(outage.as_ref(), 1, 22);
    let (calm, told) = step(calm.as_ref(), 1, 40);
    assert_eq!((told, calm.expect("open").calm_since), (None, Some(minute(40))));
}

/// Pauses that recur put an outage off, but do not hold alerts for ever.
#[test]
fn pauses_put_an_outage_off_but_not_for_ever() {
    // Six minutes of looks, four of none.
    let (mut outage, mut told_at) = (None, None);
    for minute in (0..60).filter(|minute| minute % 10 < 6) {
        let now = at(1_000_000 + 60 * minute);
        let (after, notice) = judge(outage.as_ref(), &count(50, 100), &Looks::default(), now, &POLICY);
        told_at = told_at.or(notice.map(|_| minute));
        outage = after;
    }
    assert_eq!(told_at, Some(15), "after ten minutes in which somebody looked");
    // No poll sees them again: an unconfirmed loss is not published, and does not delay alerts for long.
    let unseen = Count { confirmed: 0, ..count(50, 100) };
    let mut outage = None;
    for minute in 0..60 {
        let now = at(1_000_000 + 60 * minute);
        let (after, notice) = judge(outage.as_ref(), &unseen, &Looks::default(), now, &POLICY);
        assert_eq!(notice, None);
        outage = after;
    }
    assert_eq!(outage.expect("a suspicion").held_from, at(1_000_000 + 60 * 59));
}

#[test]
fn trigger_and_resolve_carry_counts_and_where_the_list_is() {
    let (told, left) = minutes(&[(50, 100, 10), (80, 120, 10), (95, 120, 10), (4, 120, 10)]);
    assert_eq!(left, None);
    let [(_, started), (_, ended)] = &told[..] else { panic!("{told:?}") };
    for (data, expected) in [
        (
            &started.data,
            json!({"action": "trigger", "affected": 80, "watched": 120, "remaining": null, "resolution": null}),
        ),
        (
            &ended.data,
            json!({"action": "resolve", "affected": 95, "watched": 120, "remaining": 4, "resolution": "reconnected"}),
        ),
    ] {
        for (field, value) in expected.as_object().expect("fields") {
            assert_eq!(&data[field], value, "{field}");
        }
        assert_eq!((&data["cause"], &data["severity"]), (&json!("maker_outage"), &json!("error")));
        assert_eq!(data["scope"], json!({"kind": "manufacturer", "name": "Maker & Söhne"}));
        assert_eq!(data["heat_pumps"], "/v1/heat-pumps?state=disconnected&manufacturer=Maker%20%26%20S%C3%B6hne");
        assert!(data["summary"].as_str().is_some_and(|text| text.chars().count() <= 130));
        assert_eq!((&data["heat_pump_id"], &data["manufacturer"]), (&json!(null), &json!("Maker & Söhne")));
    }
    for field in ["dedup_key", "occurrence_id", "since", "detected_at"] {
        assert_eq!(started.data[field], ended.data[field], "{field}");
    }
    assert_eq!(
        (started.order_key.as_str(), started.data["dedup_key"].as_str()),
        (ended.order_key.as_str(), Some(ended.order_key.as_str()))
    );
    assert_ne!(started.id, ended.id);
}

#[test]
fn a_region_is_no_manufacturer_of_the_same_name() {
    let (maker, region) = (Scope::Manufacturer("DE-10".into()), Scope::Region("DE-10".into()));
    assert_ne!(maker.dedup_key(), region.dedup_key());
    assert_eq!((maker.cause(), region.cause()), (Cause::MakerOutage, Cause::RegionOutage));
    let (_, suspicion) = minutes(&[(50, 100, 2)]);
    let mut outages = Outages(vec![suspicion.expect("a suspicion")]);
    assert!(outages.of(&self::maker()).is_some() && outages.of(&region).is_none());
    outages.set(&self::maker(), None);
    assert_eq!(outages, Outages::default());
}
