//! The truth: what happens to each heat pump and to Podero, decided by a seed before the first minute.

use std::time::Duration;

use podero_bridge::domain::Timestamp;
use podero_bridge::domain::alert::{ConnectionStatus, Observation, Season, Severities, WatchPolicy};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use uuid::Uuid;

/// Minutes since the world began.
pub type Minute = u32;

const HOUR: Minute = 60;
const DAY: Minute = 24 * HOUR;

/// Start of the world.
const START_SECONDS: i64 = 1_798_761_600;

/// Time before the end in which every pump is well, so that each alert can be resolved by then. Longer than the window after
/// which a pump counts as stable again.
const QUIET_END: Minute = 14 * HOUR;

/// Size of the world.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    pub pumps: u32,
    pub days: u32,
}

impl Scale {
    pub fn minutes(self) -> Minute {
        self.days * DAY
    }
}

/// Number of regions, each of as many pumps.
pub const REGIONS: u32 = 20;

/// Shares of the manufacturers in a hundred.
const MAKERS: [(&str, u32); 6] =
    [("Nordwind", 25), ("Alpenwerk", 20), ("Küste & Söhne", 18), ("Thermia", 15), ("Feldmann", 12), ("Ostfeld", 10)];

/// Something is the matter, from a minute to another.
#[derive(Debug, Clone, Copy)]
pub struct Episode {
    pub from: Minute,
    pub to: Minute,
    pub kind: Kind,
}

impl Episode {
    fn holds(&self, minute: Minute) -> bool {
        (self.from..self.to).contains(&minute)
    }
}

/// Fault of a heat pump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The authentication lapsed.
    Lapse,
    /// No data comes, and everything else looks well.
    Frozen,
    /// An error of the life cycle.
    Error,
}

/// A whole manufacturer.
#[derive(Debug, Clone, Copy)]
pub struct MakerOutage {
    pub maker: usize,
    pub episode: Episode,
    /// Share of its heat pumps in a hundred.
    pub share: u32,
}

/// State of Podero, or of the bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    Fine,
    /// Podero does not answer, and collects nothing.
    Away,
    /// It asks for a pause.
    Limited,
    /// A quarter of all calls fail.
    Flaky,
    /// The bridge does not run.
    Down,
}

/// End of a customer's time with us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Stays,
    /// Announced a day ahead.
    Churns(Minute),
    Moves(Minute),
    /// A user deletes the heat pump at Podero.
    Deleted(Minute),
}

pub struct Pump {
    pub id: Uuid,
    pub user: Uuid,
    pub maker: usize,
    pub region: u32,
    pub end: End,
    /// `false`: its onboarding was never finished.
    pub was_connected: bool,
    episodes: Vec<Episode>,
    refresh: Minute,
    /// Number below a hundred: below an outage's share it is part of it.
    luck: u32,
}

pub struct World {
    pub scale: Scale,
    pub policy: WatchPolicy,
    pub pumps: Vec<Pump>,
    pub maker_outages: Vec<MakerOutage>,
    /// A whole region, with the heat pumps of all makers.
    pub region_outage: (u32, Episode),
    weather: Vec<(Episode, Weather)>,
    pub minute: Minute,
}

/// A duration that is mostly short and sometimes very long.
fn length(dice: &mut StdRng, least: Minute, most: Minute) -> Minute {
    let (least, most) = (f64::from(least).ln(), f64::from(most).ln());
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between two small whole numbers")]
    let minutes = (least + (most - least) * dice.random::<f64>()).exp() as Minute;
    minutes
}

impl World {
    pub fn new(seed: u64, scale: Scale) -> Self {
        let mut dice = StdRng::seed_from_u64(seed);
        let last = scale.minutes() - QUIET_END;
        let maker_outages = maker_outages(last);
        let mut region_outage = (7, Episode { from: 66 * HOUR, to: 69 * HOUR, kind: Kind::Lapse });
        if region_outage.1.to + 3 * HOUR > last {
            region_outage.1.to = region_outage.1.from;
        }
        let weather = weather(&mut dice, last);
        let mut user: u128 = dice.random();
        let mut pumps: Vec<Pump> = Vec::new();
        for number in 0..scale.pumps {
            let mut pump = pump(&mut dice, Uuid::from_u128(user), last);
            // A tenth of the users has two.
            match pumps.last() {
                Some(first) if number % 11 == 1 => {
                    (pump.user, pump.end, pump.region) = (first.user, first.end, first.region)
                }
                _ => user = dice.random(),
            }
            pumps.push(pump);
        }
        let policy = WatchPolicy {
            severities: Severities::DEFAULT.in_season(Season::parse("10-01..04-30")),
            // A month has room for it.
            never_connected_after: Duration::from_hours(24),
            ..WatchPolicy::DEFAULT
        };
        Self { scale, policy, pumps, maker_outages, region_outage, weather, minute: 0 }
    }

    /// No customer moves, and none leaves.
    pub fn settle(&mut self) {
        for pump in &mut self.pumps {
            if matches!(pump.end, End::Churns(_) | End::Moves(_)) {
                pump.end = End::Stays;
            }
        }
    }

    pub fn advance(&mut self, minute: Minute) {
        self.minute = minute;
    }

    pub fn moment(minute: Minute) -> Timestamp {
        Timestamp::from_micros((START_SECONDS + i64::from(minute) * 60) * 1_000_000)
    }

    pub fn maker(pump: &Pump) -> &'static str {
        MAKERS[pump.maker].0
    }

    /// Country and two characters of the ZIP code.
    pub fn region_name(region: u32) -> String {
        format!("DE-{region:02}")
    }

    pub fn makers() -> impl Iterator<Item = &'static str> {
        MAKERS.iter().map(|(name, _)| *name)
    }

    pub fn weather(&self, minute: Minute) -> Weather {
        self.weather.iter().find(|(episode, _)| episode.holds(minute)).map_or(Weather::Fine, |(_, weather)| *weather)
    }

    /// Says whether Podero shows the heat pump.
    pub fn is_there(&self, pump: &Pump, minute: Minute) -> bool {
        match pump.end {
            End::Stays | End::Moves(_) => true,
            End::Churns(at) | End::Deleted(at) => minute < at,
        }
    }

    /// Says whether its owner is moving or leaving within a day, or has left.
    pub fn is_leaving(&self, pump: &Pump, minute: Minute) -> bool {
        match pump.end {
            End::Churns(at) | End::Moves(at) => minute + DAY > at,
            End::Stays | End::Deleted(_) => false,
        }
    }

    /// Says whether it is really lost: what Podero would show of it on a good day says so.
    pub fn is_lost(&self, pump: &Pump, minute: Minute) -> bool {
        if !pump.was_connected {
            return false;
        }
        // Data that stopped coming is not there again before the next of it comes.
        let is_stale = || self.age(pump, minute, false) > self.stale_after();
        self.troubles(pump, minute).any(|episode| episode.kind != Kind::Frozen) || is_stale()
    }

    /// Says whether its data has really stopped, for however short a time. Together with an outage of Podero's, which hides when
    /// it stopped, that may look longer than it is, and is yet its own.
    pub fn is_silent(&self, pump: &Pump, minute: Minute) -> bool {
        self.age(pump, minute, false) >= pump.refresh
    }

    /// The outage of its maker that it is part of now, if only for that it is lost.
    pub fn outage_of(&self, pump: &Pump, minute: Minute) -> Option<usize> {
        self.maker_outages.iter().position(|outage| outage.takes(pump) && outage.episode.holds(minute))
    }

    /// Says whether its region is away now.
    pub fn is_in_region_outage(&self, pump: &Pump, minute: Minute) -> bool {
        self.region_outage.0 == pump.region && self.region_outage.1.holds(minute)
    }

    /// Says whether anything of its own is the matter with it around a minute.
    pub fn has_own_trouble(pump: &Pump, from: Minute, to: Minute) -> bool {
        pump.episodes.iter().any(|episode| episode.from <= to && from < episode.to + 16)
    }

    fn stale_after(&self) -> Minute {
        Minute::try_from(self.policy.stale_after.as_secs() / 60).expect("small")
    }

    fn troubles<'a>(&'a self, pump: &'a Pump, minute: Minute) -> impl Iterator<Item = Episode> + 'a {
        let own = pump.episodes.iter().copied();
        let makers = self.maker_outages.iter().filter(|outage| outage.takes(pump)).map(|outage| outage.episode);
        let (region, episode) = self.region_outage;
        let region = (pump.region == region && pump.was_connected).then_some(episode);
        own.chain(makers).chain(region).filter(move |episode| episode.holds(minute))
    }

    /// Age of its state; `with_weather`: as Podero shows it, which collects nothing while it is away.
    fn age(&self, pump: &Pump, minute: Minute, with_weather: bool) -> Minute {
        let frozen = |at: Minute| {
            let own = self.troubles(pump, at).find(|episode| episode.kind == Kind::Frozen);
            let away = || self.weather.iter().find(|(episode, weather)| *weather == Weather::Away && episode.holds(at));
            own.or_else(|| away().filter(|_| with_weather).map(|(episode, _)| *episode))
        };
        let tick = |minute: Minute| minute - (minute % pump.refresh);
        let mut last = tick(minute);
        while let Some(episode) = frozen(last) {
            if episode.from == 0 {
                return minute;
            }
            last = tick(episode.from - 1);
        }
        minute - last
    }

    /// The observation that Podero shows.
    pub fn show(&self, pump: &Pump, minute: Minute) -> Observation {
        let is = |kind: Kind| self.troubles(pump, minute).any(|episode| episode.kind == kind);
        let is_lapsed = !pump.was_connected || is(Kind::Lapse);
        let updated_at = pump.was_connected.then(|| Self::moment(minute - self.age(pump, minute, true)));
        let status = match (is_lapsed, pump.luck % 5) {
            // No page explains it, so it may say anything.
            (true, _) => ConnectionStatus::Error,
            (false, 0) => ConnectionStatus::Warning,
            (false, 1) => ConnectionStatus::Unknown,
            (false, _) => ConnectionStatus::Ok,
        };
        Observation {
            heat_pump: pump.id,
            building: Some(pump.user),
            manufacturer: Some(Self::maker(pump).to_owned()),
            model: Some("M1".to_owned()),
            is_authenticated: Some(!is_lapsed),
            wants_reauthentication: is_lapsed,
            connection: Some(status),
            has_lifecycle_error: is(Kind::Error),
            updated_at,
            ..Observation::default()
        }
    }
}

impl MakerOutage {
    pub fn takes(&self, pump: &Pump) -> bool {
        pump.maker == self.maker && pump.luck < self.share && pump.was_connected
    }
}

/// A long one of the largest, a partial one, one that only freezes data, and a hiccup that is none.
fn maker_outages(last: Minute) -> Vec<MakerOutage> {
    let at = |maker, from: Minute, minutes, kind, share| MakerOutage {
        maker,
        episode: Episode { from, to: from + minutes, kind },
        share,
    };
    [
        at(0, 13 * HOUR, 4 * HOUR, Kind::Lapse, 100),
        at(2, 20 * HOUR, 8, Kind::Lapse, 100),
        at(3, 30 * HOUR, 3 * HOUR, Kind::Lapse, 35),
        at(1, 42 * HOUR, 9 * HOUR, Kind::Frozen, 95),
        at(5, 55 * HOUR, 8 * HOUR, Kind::Frozen, 55),
        at(2, 6 * DAY, 3 * HOUR, Kind::Lapse, 50),
        at(0, 12 * DAY, 40, Kind::Lapse, 100),
        at(4, 17 * DAY, 26 * HOUR, Kind::Error, 80),
    ]
    .into_iter()
    .filter(|outage| outage.episode.to + 3 * HOUR < last)
    .collect()
}

fn weather(dice: &mut StdRng, last: Minute) -> Vec<(Episode, Weather)> {
    let mut weather = Vec::new();
    let mut add = |from: Minute, minutes: Minute, what: Weather| {
        if from + minutes < last {
            weather.push((Episode { from, to: from + minutes, kind: Kind::Error }, what));
        }
    };
    add(8 * HOUR, 3 * HOUR, Weather::Away);
    add(19 * HOUR, 25, Weather::Limited);
    add(DAY + 2 * HOUR, 6 * HOUR, Weather::Flaky);
    add(DAY + 10 * HOUR, 5 * HOUR, Weather::Down);
    // In the middle of an outage, so that its end must not be concluded from our own.
    add(45 * HOUR, 50, Weather::Down);
    add(5 * DAY, 40, Weather::Away);
    add(8 * DAY, 20 * HOUR, Weather::Flaky);
    add(10 * DAY, 90, Weather::Limited);
    add(15 * DAY, 16 * HOUR, Weather::Away);
    add(20 * DAY, 5, Weather::Away);
    // In the first outage Podero asks for short pauses, again and again.
    for pause in 0..5 {
        add(13 * HOUR + 8 + 12 * pause, 4, Weather::Limited);
    }
    // Restarts, of a minute or two.
    for day in 0..last / DAY {
        add(day * DAY + dice.random_range(16 * HOUR..18 * HOUR), dice.random_range(1..3), Weather::Down);
    }
    weather
}

fn pump(dice: &mut StdRng, user: Uuid, last: Minute) -> Pump {
    let luck = dice.random_range(0..100);
    let share = dice.random_range(0..100);
    let mut below = 0;
    let maker = MAKERS.iter().position(|(_, part)| {
        below += part;
        share < below
    });
    let end = match dice.random_range(0..100) {
        0 | 1 => End::Churns(dice.random_range(DAY.min(last / 2)..last)),
        2 | 3 => End::Moves(dice.random_range(DAY.min(last / 2)..last)),
        4 => End::Deleted(dice.random_range(1..last)),
        _ => End::Stays,
    };
    let was_connected = dice.random_range(0..100) != 0;
    Pump {
        id: Uuid::from_u128(dice.random()),
        user,
        maker: maker.expect("the shares are a hundred"),
        region: dice.random_range(0..REGIONS),
        end,
        was_connected,
        episodes: if was_connected { episodes(dice, last) } else { Vec::new() },
        refresh: dice.random_range(5..=15),
        luck,
    }
}

/// A life: losses that last, glitches that do not, frozen data; of one in fifty the connection comes and goes for a day.
fn episodes(dice: &mut StdRng, last: Minute) -> Vec<Episode> {
    let mut episodes = Vec::new();
    let flapper = (dice.random_range(0..50) == 0).then(|| dice.random_range(0..last.saturating_sub(DAY).max(1)));
    let mut at = 0;
    loop {
        at += length(dice, 2 * HOUR, 20 * DAY);
        let flaps = flapper.is_some_and(|from| (from..from + DAY).contains(&at));
        let (kind, minutes, pause) = match dice.random_range(0..20) {
            _ if flaps => (Kind::Lapse, dice.random_range(10..25), dice.random_range(15..60)),
            // Shorter than the promise: one poll may see it.
            0..=9 => (Kind::Lapse, dice.random_range(1..8), 0),
            10..=15 => (Kind::Lapse, length(dice, 20, 5 * DAY), 0),
            16..=18 => (Kind::Frozen, length(dice, 30, 4 * DAY), 0),
            _ => (Kind::Error, length(dice, 20, 2 * DAY), 0),
        };
        let to = at + minutes;
        if to >= last {
            return episodes;
        }
        episodes.push(Episode { from: at, to, kind });
        at = to + pause;
        // While it flaps the next one comes at once.
        let mut rounds = if flaps { 20 } else { 0 };
        while rounds > 0 && at + 25 < last {
            let minutes = dice.random_range(10..25);
            episodes.push(Episode { from: at, to: at + minutes, kind: Kind::Lapse });
            at += minutes + dice.random_range(15..60);
            rounds -= 1;
        }
    }
}
