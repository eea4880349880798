//! The core alone: its memory in a map, its due times in a heap. [`super::shell`] has what the stage and the store add.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use podero_bridge::domain::Timestamp;
use podero_bridge::domain::alert::outage::{self, Count, Outage, ScopeKind};
use podero_bridge::domain::alert::poll_interval::{next_poll, retry_poll};
use podero_bridge::domain::alert::{
    DiffContext, Knowledge, Looks, Outages, PumpRecord, Resolution, Scope, diff, miss, retire,
};
use podero_bridge::domain::notice::Notice;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use uuid::Uuid;

use super::Bridge;
use super::world::{End, Minute, REGIONS, Weather, World};

/// `podero.requests_per_second`, for a minute.
const REQUESTS_A_MINUTE: usize = 50 * 60;

pub struct Pure {
    /// Each user with the places of the pumps.
    users: Vec<(Uuid, Vec<usize>)>,
    seen: Vec<Option<PumpRecord>>,
    due: BinaryHeap<Reverse<(Timestamp, usize)>>,
    outages: Outages,
    looks: Looks,
    dice: StdRng,
    requests: u64,
}

impl Pure {
    pub fn new(world: &World, seed: u64) -> Self {
        let mut dice = StdRng::seed_from_u64(seed ^ 1);
        let mut places: BTreeMap<Uuid, Vec<usize>> = BTreeMap::new();
        for (place, pump) in world.pumps.iter().enumerate() {
            places.entry(pump.user).or_default().push(place);
        }
        let users: Vec<_> = places.into_iter().collect();
        let now = World::moment(0);
        let first = |(place, (user, _)): (usize, &(Uuid, Vec<usize>))| {
            Reverse((next_poll(*user, false, now, dice.random(), &world.policy), place))
        };
        let due = users.iter().enumerate().map(first).collect();
        Self {
            seen: vec![None; world.pumps.len()],
            users,
            due,
            outages: Outages::default(),
            looks: Looks::default(),
            dice,
            requests: 0,
        }
    }

    fn poll(&mut self, world: &World, user: usize, now: Timestamp, told: &mut Vec<Notice>) -> Timestamp {
        self.requests += 1;
        let minute = world.minute;
        if world.weather(minute) == Weather::Flaky && self.dice.random_range(0..4) == 0 {
            return retry_poll(now, self.dice.random(), &world.policy);
        }
        let (id, places) = &self.users[user];
        let mut is_suspect = false;
        for place in places {
            let pump = &world.pumps[*place];
            let region = World::region_name(pump.region);
            let around = DiffContext {
                region: Some(&region),
                is_leaving: world.is_leaving(pump, minute),
                ..DiffContext::plain(*id, None, &self.outages)
            };
            let before = self.seen[*place].as_ref();
            let change = match (world.is_there(pump, minute), before) {
                (true, before) => Some(diff(before, &world.show(pump, minute), &around, now, &world.policy)),
                (false, Some(seen)) if !seen.is_retired => miss(seen, now, &world.policy),
                (false, _) => None,
            };
            if let Some(change) = change {
                is_suspect |= change.seen.is_suspect();
                told.extend(change.notices);
                self.seen[*place] = Some(change.seen);
            }
        }
        next_poll(*id, is_suspect, now, self.dice.random(), &world.policy)
    }

    /// Does the appliers' work when a churn or a move is complete.
    fn apply(&mut self, world: &World, now: Timestamp, told: &mut Vec<Notice>) {
        for (place, pump) in world.pumps.iter().enumerate() {
            let resolution = match pump.end {
                // Or as soon as the bridge runs again.
                End::Churns(at) if at <= world.minute => Resolution::Churned,
                End::Moves(at) if at <= world.minute => Resolution::Moved,
                End::Stays | End::Churns(_) | End::Moves(_) | End::Deleted(_) => continue,
            };
            if let Some(seen) = self.seen[place].as_ref().filter(|seen| !seen.is_retired) {
                let change = retire(seen, resolution, now);
                told.extend(change.notices);
                self.seen[place] = Some(change.seen);
            }
        }
    }

    /// As the stage does it, with its counts made in one walk.
    fn judge_fleets(&mut self, world: &World, now: Timestamp, told: &mut Vec<Notice>) {
        self.looks.look(now, &world.policy);
        for kind in [ScopeKind::Manufacturer, ScopeKind::Region] {
            let others: Vec<Scope> = match kind {
                ScopeKind::Manufacturer => {
                    let open = self.outages.of_kind(ScopeKind::Region).filter(|outage| outage.is_open());
                    open.map(|outage| outage.scope.clone()).collect()
                }
                ScopeKind::Region => {
                    self.outages.of_kind(ScopeKind::Manufacturer).map(|outage| outage.scope.clone()).collect()
                }
            };
            // Names are compared once for each scope, not for each heat pump.
            let scopes: Vec<Scope> = names(kind).map(|name| kind.scope(name)).collect();
            let other_kind = if kind == ScopeKind::Region { ScopeKind::Manufacturer } else { ScopeKind::Region };
            let is_out: Vec<bool> = names(other_kind).map(|name| others.contains(&other_kind.scope(name))).collect();
            let known: Vec<Option<&Outage>> = scopes.iter().map(|scope| self.outages.of(scope)).collect();
            let lost_from: Vec<Timestamp> =
                known.iter().map(|known| outage::lost_from(*known, &self.looks, now, &world.policy)).collect();
            let mut counts: Vec<Count> =
                scopes.iter().map(|scope| Count { scope: scope.clone(), lost: 0, confirmed: 0, watched: 0 }).collect();
            for (seen, pump) in self.seen.iter().zip(&world.pumps) {
                let Some(seen) = seen.as_ref().filter(|seen| !seen.is_retired) else { continue };
                let region = usize::try_from(pump.region).expect("small");
                let (mine, other) = if kind == ScopeKind::Region { (region, pump.maker) } else { (pump.maker, region) };
                if is_out[other] && !known[mine].is_some_and(Outage::is_open) {
                    continue;
                }
                counts[mine].watched += u64::from(seen.knowledge != Knowledge::NeverConnected);
                let is_lost = seen.fell_at.is_some_and(|at| at >= lost_from[mine]);
                counts[mine].lost += u64::from(is_lost);
                let is_seen = known[mine].is_some_and(|outage| seen.named_at > Some(outage.since));
                let is_away = matches!(seen.knowledge, Knowledge::Disconnected(_));
                counts[mine].confirmed += u64::from(is_lost && is_seen && is_away);
            }
            for count in &counts {
                let (outage, notice) =
                    outage::judge(self.outages.of(&count.scope), count, &self.looks, now, &world.policy);
                self.outages.set(&count.scope, outage);
                told.extend(notice);
            }
        }
    }
}

/// The names of all scopes of a kind, in the order of the world's numbers.
fn names(kind: ScopeKind) -> Box<dyn Iterator<Item = String>> {
    match kind {
        ScopeKind::Manufacturer => Box::new(World::makers().map(str::to_owned)),
        ScopeKind::Region => Box::new((0..REGIONS).map(World::region_name)),
    }
}

impl Bridge for Pure {
    async fn live(&mut self, world: &World, minute: Minute) -> Vec<Notice> {
        let mut told = Vec::new();
        let weather = world.weather(minute);
        let now = World::moment(minute);
        if weather != Weather::Down {
            self.apply(world, now, &mut told);
        }
        if !matches!(weather, Weather::Fine | Weather::Flaky) {
            return told;
        }
        for _ in 0..REQUESTS_A_MINUTE {
            let Some(Reverse((due, user))) = self.due.peek().copied().filter(|due| due.0.0 <= now) else { break };
            let _ = due;
            self.due.pop();
            let next = self.poll(world, user, now, &mut told);
            self.due.push(Reverse((next, user)));
        }
        self.judge_fleets(world, now, &mut told);
        told
    }

    fn requests(&self) -> u64 {
        self.requests
    }
}
