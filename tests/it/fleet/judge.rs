//! Holds the published alerts against the truth, minute by minute.

use std::collections::{BTreeMap, BTreeSet};

use podero_bridge::domain::notice::{Notice, Topic};
use uuid::Uuid;

use super::say;
use super::world::{End, Kind, Minute, Pump, Weather, World};

/// Interval between two looks, since to look at all pumps takes a while.
const LOOK_EVERY: Minute = 3;

/// Time that the budget takes for all users, who are due at once after a break.
const CATCH_UP: Minute = 8;

/// Time after an outage in which the judge still counts a lost pump together with the others of it.
const TOGETHER: Minute = 30;

/// Two of the slowest refreshes.
const REFRESHES: Minute = 30;

type Check = Result<(), String>;

struct Open {
    what: What,
    cause: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Pump(usize),
    Maker(usize),
    /// The one that the world has an outage of.
    Region,
}

pub struct Judge {
    places: BTreeMap<Uuid, usize>,
    open: BTreeMap<Uuid, Open>,
    ended: BTreeSet<Uuid>,
    alert: Vec<Option<Uuid>>,
    maker_alert: BTreeMap<usize, Uuid>,
    region_alert: Option<Uuid>,
    told_region: u32,
    /// Outages of the world that have an alert.
    told_outages: BTreeMap<usize, u32>,
    /// Since when a pump that is lost could be seen to be, without a break.
    seen_since: Vec<Option<Minute>>,
    /// Losses that lately lasted until a poll must have seen them; and since when it is lost now.
    losses: Vec<(Vec<Minute>, Option<Minute>)>,
    /// Since when a pump with an open alert could be seen to be well.
    well_since: Vec<Option<Minute>>,
    last_break: Minute,
    /// `disconnect_after`, `interval`, one poll, and what a look every few minutes blurs.
    patience: Minute,
    /// By topic and cause or resolution.
    counts: BTreeMap<String, u64>,
    /// Losses that lasted long enough for an alert.
    long_losses: u64,
    is_counted: Vec<bool>,
    slowest: Minute,
}

impl Judge {
    pub fn new(world: &World) -> Self {
        let minutes = |duration: std::time::Duration| Minute::try_from(duration.as_secs() / 60).expect("small");
        let policy = &world.policy;
        let poll = minutes(policy.disconnect_after) / policy.disconnect_polls;
        Self {
            places: world.pumps.iter().enumerate().map(|(place, pump)| (pump.id, place)).collect(),
            open: BTreeMap::new(),
            ended: BTreeSet::new(),
            alert: vec![None; world.pumps.len()],
            maker_alert: BTreeMap::new(),
            region_alert: None,
            told_region: 0,
            told_outages: BTreeMap::new(),
            seen_since: vec![None; world.pumps.len()],
            losses: vec![(Vec::new(), None); world.pumps.len()],
            well_since: vec![None; world.pumps.len()],
            last_break: minutes(policy.interval),
            patience: minutes(policy.disconnect_after) + minutes(policy.interval) + poll + LOOK_EVERY + 1,
            counts: BTreeMap::new(),
            long_losses: 0,
            is_counted: vec![false; world.pumps.len()],
            slowest: 0,
        }
    }

    pub fn hear(&mut self, world: &World, minute: Minute, told: &[Notice]) -> Check {
        for notice in told {
            let data = &notice.data;
            let text = |field: &str| data[field].as_str().unwrap_or_default().to_owned();
            let about = || format!("{} of {}: {data}", notice.topic.name(), notice.subject);
            let occurrence: Uuid = text("occurrence_id").parse().map_err(|_| about())?;
            let is_trigger = data["action"] == "trigger";
            let what = self.what(notice).ok_or_else(about)?;
            let (word, checked) = if is_trigger {
                (text("cause"), self.triggered(world, minute, (what, notice, occurrence)))
            } else {
                (text("resolution"), self.resolved(world, minute, (what, notice, occurrence)))
            };
            *self.counts.entry(format!("{} {word}", notice.topic.name())).or_default() += 1;
            checked.map_err(|wrong| format!("{wrong}: {}", about()))?;
        }
        Ok(())
    }

    fn what(&self, notice: &Notice) -> Option<What> {
        match notice.topic {
            Topic::FleetOutageStarted | Topic::FleetOutageEnded if notice.data["scope"]["kind"] == "region" => {
                (notice.data["scope"]["name"] == "DE-07").then_some(What::Region)
            }
            Topic::FleetOutageStarted | Topic::FleetOutageEnded => {
                let name = notice.data["manufacturer"].as_str()?;
                World::makers().position(|maker| maker == name).map(What::Maker)
            }
            Topic::HeatPumpDisconnected | Topic::HeatPumpNeverConnected | Topic::HeatPumpReconnected => {
                let id: Uuid = notice.data["heat_pump_id"].as_str()?.parse().ok()?;
                self.places.get(&id).copied().map(What::Pump)
            }
            Topic::CustomerProvisioned
            | Topic::CustomerRelocated
            | Topic::CustomerOffboarded
            | Topic::EventParked
            | Topic::TeamMemberAdded
            | Topic::TeamMemberChanged
            | Topic::TeamMemberRemoved
            | Topic::TeamAccessExpiring
            | Topic::WatchBlind
            | Topic::WatchRestored => None,
        }
    }

    fn triggered(&mut self, world: &World, minute: Minute, (what, notice, occurrence): (What, &Notice, Uuid)) -> Check {
        if self.open.contains_key(&occurrence) || self.ended.contains(&occurrence) {
            return Err("triggered twice".to_owned());
        }
        let cause = notice.data["cause"].as_str().unwrap_or_default().to_owned();
        match what {
            What::Maker(maker) => {
                let is_it = |outage: &super::world::MakerOutage| {
                    outage.maker == maker && (outage.episode.from..outage.episode.to).contains(&minute)
                };
                let outage = world.maker_outages.iter().position(is_it).ok_or("no such outage")?;
                let times = self.told_outages.entry(outage).or_default();
                *times += 1;
                if *times > 1 || self.maker_alert.insert(maker, occurrence).is_some() {
                    return Err("one outage, and not the first alert".to_owned());
                }
            }
            What::Region => {
                let episode = world.region_outage.1;
                self.told_region += 1;
                if !(episode.from..episode.to).contains(&minute) || self.told_region > 1 {
                    return Err("no such outage of a region, or not its first alert".to_owned());
                }
                self.region_alert = Some(occurrence);
            }
            What::Pump(place) => {
                let pump = &world.pumps[place];
                let since = minute_of(notice.data["since"].as_str().unwrap_or_default());
                self.is_true(world, minute, (pump, &cause, since))?;
                if self.alert[place].replace(occurrence).is_some() {
                    return Err("the pump has an open alert already".to_owned());
                }
                if world.is_leaving(pump, minute) || !world.is_there(pump, minute) {
                    return Err("its owner leaves, or it is gone".to_owned());
                }
            }
        }
        self.open.insert(occurrence, Open { what, cause });
        Ok(())
    }

    fn is_true(&self, world: &World, minute: Minute, (pump, cause, since): (&Pump, &str, Minute)) -> Check {
        match cause {
            "never_connected" if !pump.was_connected => Ok(()),
            "unstable" => {
                let window = Minute::try_from(world.policy.flap_window.as_secs() / 60).expect("small");
                let from = minute.saturating_sub(window + 10);
                let mut losses = 0;
                for at in from..=minute {
                    losses += u32::from(world.is_lost(pump, at) && (at == 0 || !world.is_lost(pump, at - 1)));
                }
                let is_true = losses >= world.policy.flap_losses;
                if is_true { Ok(()) } else { Err(format!("only {losses} losses in the window")) }
            }
            "needs_reauthentication" | "lifecycle_error" | "device_offline" => {
                // Podero shows fresh data a refresh later than it comes, or two if it was away in between.
                let is_silent = |at: Minute| (at.saturating_sub(REFRESHES)..=at).any(|at| world.is_silent(pump, at));
                let is_away = |at| world.is_lost(pump, at) || (cause == "device_offline" && is_silent(at));
                if !is_away(minute) || !is_away(since) {
                    return Err("it is not lost".to_owned());
                }
                let least = Minute::try_from(world.policy.disconnect_after.as_secs() / 60).expect("small");
                // It may have been back between two looks.
                let away = (since..minute).filter(|at| is_away(*at)).count();
                if minute - since < least || away * 2 < usize::try_from(minute - since).expect("small") {
                    return Err("it has not lasted".to_owned());
                }
                let region = world.region_outage.1.from;
                let is_alone = World::has_own_trouble(pump, since.min(region), minute);
                if world.is_in_region_outage(pump, minute) && self.is_region_rolled_up(world) && !is_alone {
                    return Err("a region went at once, and this one is told for itself".to_owned());
                }
                let Some(outage) = world.outage_of(pump, minute) else { return Ok(()) };
                // Its own trouble may have gone over into the outage.
                let began = world.maker_outages[outage].episode.from;
                let is_alone = World::has_own_trouble(pump, since.min(began), minute);
                if self.is_rolled_up(world, outage) && !is_alone {
                    return Err("many went at once, and this one is told for itself".to_owned());
                }
                Ok(())
            }
            _ => Err("an alert without a true cause".to_owned()),
        }
    }

    fn is_region_rolled_up(&self, world: &World) -> bool {
        let (region, _) = world.region_outage;
        let is_here = |pump: &&Pump| pump.region == region && pump.was_connected && world.is_there(pump, world.minute);
        let least = usize::try_from(world.policy.outage_min).expect("small") + 10;
        world.pumps.iter().filter(is_here).count() >= least
    }

    /// Says whether enough pumps of its maker go that they must be one alert.
    fn is_rolled_up(&self, world: &World, outage: usize) -> bool {
        let outage = &world.maker_outages[outage];
        let is_here = |pump: &&Pump| pump.maker == outage.maker && world.is_there(pump, world.minute);
        let all = world.pumps.iter().filter(is_here).count();
        let gone = world.pumps.iter().filter(is_here).filter(|pump| outage.takes(pump)).count();
        // Some are away already, moved, or are lost at that time anyhow.
        let least = usize::try_from(world.policy.outage_min).expect("small") + 10;
        gone >= least && gone * 10 >= all * 4
    }

    fn resolved(&mut self, world: &World, minute: Minute, (what, notice, occurrence): (What, &Notice, Uuid)) -> Check {
        let open = self.open.remove(&occurrence).ok_or("resolved, and not open")?;
        self.ended.insert(occurrence);
        if open.what != what || notice.data["cause"] != open.cause.as_str() {
            return Err("another thing, or cause, than the trigger's".to_owned());
        }
        let resolution = notice.data["resolution"].as_str().unwrap_or_default();
        match what {
            What::Region => {
                self.region_alert = None;
                let is_over = minute >= world.region_outage.1.to;
                if is_over { Ok(()) } else { Err("the outage of the region is not over".to_owned()) }
            }
            What::Maker(maker) => {
                self.maker_alert.remove(&maker);
                let goes_on = |outage: &super::world::MakerOutage| {
                    outage.maker == maker && (outage.episode.from..outage.episode.to).contains(&minute)
                };
                let is_over = !world.maker_outages.iter().any(goes_on);
                if is_over { Ok(()) } else { Err("the outage is not over".to_owned()) }
            }
            What::Pump(place) => {
                let pump = &world.pumps[place];
                self.alert[place] = None;
                let is_true = match resolution {
                    "reconnected" | "stable" | "connected" => !world.is_lost(pump, minute),
                    "lost" => world.is_lost(pump, minute),
                    "merged_into_outage" => self.is_spoken_for(world, pump),
                    "churned" => matches!(pump.end, End::Churns(at) if at <= minute),
                    "moved" => matches!(pump.end, End::Moves(at) if at <= minute),
                    "removed" => matches!(pump.end, End::Deleted(at) | End::Churns(at) if at <= minute),
                    _ => false,
                };
                if is_true { Ok(()) } else { Err("its resolution is not true".to_owned()) }
            }
        }
    }

    fn is_spoken_for(&self, world: &World, pump: &Pump) -> bool {
        let region = self.region_alert.is_some() && pump.region == world.region_outage.0;
        region || self.maker_alert.contains_key(&pump.maker)
    }

    /// A pump that could be seen to be lost for long enough has an alert, or another alert covers it.
    pub fn look(&mut self, world: &World, minute: Minute) -> Check {
        if world.weather(minute) != Weather::Fine {
            self.seen_since.fill(None);
            self.losses.fill((Vec::new(), None));
            self.well_since.fill(None);
            self.last_break = minute + CATCH_UP;
            return Ok(());
        }
        if !minute.is_multiple_of(LOOK_EVERY) {
            return Ok(());
        }
        let warm_up = Minute::try_from(world.policy.warm_up.as_secs() / 60).expect("small");
        let lately = |pump: &Pump| {
            let region = world.region_outage.1;
            let in_region =
                pump.region == world.region_outage.0 && (region.from..region.to + TOGETHER).contains(&minute);
            in_region
                || world.maker_outages.iter().any(|outage| {
                    outage.maker == pump.maker && (outage.episode.from..outage.episode.to + TOGETHER).contains(&minute)
                })
        };
        for (place, pump) in world.pumps.iter().enumerate() {
            let is_watched = world.is_there(pump, minute) && !world.is_leaving(pump, minute);
            let is_together = lately(pump) || self.is_spoken_for(world, pump);
            self.look_for_flaps(world, minute, (place, is_watched && !is_together))?;
            self.look_for_returns(world, minute, place)?;
            if !is_watched || !world.is_lost(pump, minute) {
                (self.seen_since[place], self.is_counted[place]) = (None, false);
                continue;
            }
            let has_own = self.alert[place].is_some();
            // State that is only old must be looked at for a while after a break.
            let from = if world.show(pump, minute).is_authenticated == Some(true)
                && !world.show(pump, minute).has_lifecycle_error
            {
                minute.max(self.last_break + warm_up)
            } else {
                minute.max(self.last_break)
            };
            let is_away_with_others =
                world.outage_of(pump, minute).is_some() || world.is_in_region_outage(pump, minute);
            if self.is_spoken_for(world, pump) || (lately(pump) && !is_away_with_others) {
                // When the outage is over, it is judged afresh.
                self.seen_since[place] = Some(from);
                continue;
            }
            let since = *self.seen_since[place].get_or_insert(from);
            let lasted = minute.saturating_sub(since);
            if has_own {
                if !self.is_counted[place] {
                    self.slowest = self.slowest.max(lasted);
                }
                self.long_losses += u64::from(!std::mem::replace(&mut self.is_counted[place], true));
            } else if lasted > self.patience {
                return Err(format!("{} is lost, could be seen to be since {since}, and nobody is told", pump.id));
            }
        }
        Ok(())
    }

    /// The alert of a pump that is well, and could be seen to be, is resolved.
    fn look_for_returns(&mut self, world: &World, minute: Minute, place: usize) -> Check {
        let pump = &world.pumps[place];
        let cause = self.alert[place].and_then(|alert| self.open.get(&alert)).map(|open| open.cause.as_str());
        let is_of_a_loss = cause.is_some_and(|cause| !matches!(cause, "unstable" | "never_connected"));
        if !is_of_a_loss || world.is_lost(pump, minute) || world.is_silent(pump, minute) {
            self.well_since[place] = None;
            return Ok(());
        }
        let since = *self.well_since[place].get_or_insert(minute.max(self.last_break));
        // As for a loss; `reconnect_after` is shorter than `disconnect_after`.
        if minute.saturating_sub(since) > self.patience {
            return Err(format!("{} is well since {since}, and its alert is open", pump.id));
        }
        Ok(())
    }

    /// A pump that could be seen to be lost again and again has an alert.
    fn look_for_flaps(&mut self, world: &World, minute: Minute, (place, counts): (usize, bool)) -> Check {
        let is_lost = world.is_lost(&world.pumps[place], minute);
        let (losses, since) = &mut self.losses[place];
        if !counts {
            (*losses, *since) = (Vec::new(), None);
            return Ok(());
        }
        match (is_lost, *since) {
            (true, None) => *since = Some(minute),
            (false, Some(from)) => {
                *since = None;
                // Healthy pumps are polled once in this time.
                if minute - from >= Minute::try_from(world.policy.interval.as_secs() / 60).expect("small") {
                    losses.push(from);
                }
            }
            (true, Some(_)) | (false, None) => {}
        }
        let window = Minute::try_from(world.policy.flap_window.as_secs() / 60).expect("small");
        losses.retain(|at| minute - at < window - LOOK_EVERY);
        // It must also have been seen to be back in between, and a poll may come too late for a short return.
        let is_flapping = losses.len() >= usize::try_from(world.policy.flap_losses).expect("small") + 2;
        if is_flapping && self.alert[place].is_none() {
            return Err(format!("{} was lost at {losses:?}, and nobody is told", world.pumps[place].id));
        }
        Ok(())
    }

    /// Checks the end, at which all pumps have been well for long.
    pub fn end(&self, world: &World) -> Check {
        let may_be_open = |open: &Open| match open.what {
            What::Pump(place) => {
                let pump = &world.pumps[place];
                open.cause == "never_connected"
                    && world.is_there(pump, world.minute)
                    && !world.is_leaving(pump, world.minute)
            }
            What::Maker(_) | What::Region => false,
        };
        if let Some((occurrence, open)) = self.open.iter().find(|(_, open)| !may_be_open(open)) {
            return Err(format!("the alert {occurrence} ({}) is never resolved", open.cause));
        }
        let region = world.region_outage.1;
        if region.to > region.from && self.is_region_rolled_up(world) && self.told_region != 1 {
            return Err(format!("the outage of the region was told {} times", self.told_region));
        }
        for outage in 0..world.maker_outages.len() {
            let episode = world.maker_outages[outage].episode;
            let lasts = episode.to - episode.from > self.patience + if episode.kind == Kind::Frozen { 180 } else { 0 };
            let times = self.told_outages.get(&outage).copied().unwrap_or(0);
            if lasts && self.is_rolled_up(world, outage) && times != 1 {
                return Err(format!("outage {outage} was told {times} times"));
            }
        }
        Ok(())
    }

    /// Figures that a document may quote.
    pub fn report(&self, world: &World, requests: u64) {
        let (hours, pumps) = (u64::from(world.scale.minutes() / 60), u64::from(world.scale.pumps));
        let tenths = requests * 10 / (hours * pumps).max(1);
        say(&format!("  requests of Podero {requests}, for a heat pump in an hour {}.{}", tenths / 10, tenths % 10));
        let slowest = self.slowest;
        say(&format!("  losses told {}, the slowest {slowest} minutes after it could be seen", self.long_losses));
        for (what, count) in &self.counts {
            say(&format!("  {what}: {count}"));
        }
    }
}

fn minute_of(text: &str) -> Minute {
    let moment = podero_bridge::domain::Timestamp::parse(text).expect("a moment");
    Minute::try_from(moment.since(World::moment(0)).as_secs() / 60).expect("small")
}
