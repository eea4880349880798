//! The fleet: heat pumps by state, manufacturer and region, open alerts and outages, and a list that is filtered by all of them.
//!
//! Before: an operator. After: [`crate::store`], as `/v1/heat-pumps` shows.

use actix_web::http::StatusCode;
use actix_web::web;
use maud::{Markup, html};
use serde::Deserialize;

use super::error::{PageError, PageResult};
use super::layout::Sheet;
use super::parts::{alert_tag, customer_link, pump_link, pump_state_tag, with_query};
use super::visit::Visit;
use super::words::{self, Text};
use crate::admin::{Admin, next_of};
use crate::domain::alert::Knowledge;
use crate::store::{CappedCount, FleetGroup, FleetSummary, OutageView, PumpFilter, PumpView};

/// Heat pumps of a page.
const PAGE: i64 = 50;

/// Path of the page.
const PATH: &str = "/console/fleet";

/// The filter of the list; an empty value narrows nothing.
#[derive(Deserialize)]
pub(super) struct FleetQuery {
    state: Option<String>,
    manufacturer: Option<String>,
    region: Option<String>,
    alert: Option<String>,
    after: Option<String>,
}

impl FleetQuery {
    fn read(self) -> Result<PumpFilter, PageError> {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let state = given(self.state);
        if state.as_ref().is_some_and(|state| !Knowledge::NAMES.contains(&state.as_str())) {
            return Err(PageError::of(StatusCode::BAD_REQUEST));
        }
        Ok(PumpFilter {
            state,
            manufacturer: given(self.manufacturer),
            region: given(self.region),
            has_alert: self.alert.as_deref() == Some("open"),
            after: given(self.after),
            limit: PAGE,
        })
    }
}

/// The address of a page of the list.
fn address(filter: &PumpFilter, after: Option<&str>) -> String {
    let parameters = [
        ("state", filter.state.as_deref()),
        ("manufacturer", filter.manufacturer.as_deref()),
        ("region", filter.region.as_deref()),
        ("alert", filter.has_alert.then_some("open")),
        ("after", after),
    ];
    with_query(PATH, &parameters)
}

/// The page.
pub(super) async fn page(visit: Visit, admin: web::Data<Admin>, query: web::Query<FleetQuery>) -> PageResult {
    let filter = query.into_inner().read()?;
    let (summary, pumps) = tokio::try_join!(admin.store.fleet(), admin.store.heat_pumps(filter.clone()))?;
    let main = html! {
        div.stack data-part="summary" {
            (states(&visit, &summary))
            @if !summary.outages.is_empty() { (outages(&visit, &summary.outages)) }
        }
        div.stack.below {
            section.panel {
                h2 { (visit.say(words::HEAT_PUMPS)) }
                (form(&visit, &filter, &summary))
                (list(&visit, &filter, &pumps))
            }
            @if !summary.manufacturers.is_empty() {
                div.two {
                    (groups(&visit, words::MANUFACTURER, "manufacturer", &summary.manufacturers))
                    @if !summary.regions.is_empty() { (groups(&visit, words::REGION, "region", &summary.regions)) }
                }
            }
            @if summary.is_cut { p.small.soft { (visit.say(words::GROUPS_CUT)) } }
        }
    };
    let api = address(&filter, None).replacen(PATH, "http://127.0.0.1:9090/v1/heat-pumps", 1);
    let sheet = Sheet::new(visit.say(words::FLEET), main).live();
    Ok(visit.page(sheet.same_as(&[&format!("curl '{api}'"), "curl http://127.0.0.1:9090/v1/heat-pumps/summary"])))
}

/// A count that may end at a limit, in the reader's way of writing numbers.
fn count(visit: &Visit, count: CappedCount) -> String {
    let number = visit.number(count.count);
    if count.is_capped { format!("{number}+") } else { number }
}

fn states(visit: &Visit, summary: &FleetSummary) -> Markup {
    html! {
        div.figures {
            @for state in Knowledge::NAMES {
                @if let Some(known) = summary.states.get(state) {
                    a.figure href=(with_query(PATH, &[("state", Some(state))])) {
                        div.name { (state) }
                        div.value { (count(visit, *known)) }
                    }
                }
            }
        }
    }
}

fn outages(visit: &Visit, outages: &[OutageView]) -> Markup {
    html! {
        section.panel {
            h2 { (visit.say(words::OPEN_OUTAGES)) }
            table.cards {
                thead { tr {
                    th { (visit.say(words::SCOPE)) } th { (visit.say(words::CAUSE)) } th.end { (visit.say(words::AFFECTED)) }
                    th { (visit.say(words::SINCE)) }
                } }
                tbody {
                    @for outage in outages {
                        @let kind = outage.scope.kind;
                        tr {
                            td data-name=(visit.say(words::SCOPE)) {
                                a href=(with_query(PATH, &[(kind, Some(&outage.scope.name))])) { (outage.scope.name) }
                            }
                            td data-name=(visit.say(words::CAUSE)) { (alert_tag(&outage.alert.cause, &outage.alert.severity)) }
                            td.end data-name=(visit.say(words::AFFECTED)) {
                                (visit.say_with(words::OF_WATCHED, &[&visit.number(outage.affected), &visit.number(outage.watched)]))
                            }
                            td data-name=(visit.say(words::SINCE)) { (visit.time(outage.alert.since)) }
                        }
                    }
                }
            }
        }
    }
}

fn form(visit: &Visit, filter: &PumpFilter, summary: &FleetSummary) -> Markup {
    let names = |groups: &[FleetGroup]| groups.iter().map(|group| group.name.clone()).collect::<Vec<_>>();
    let states: Vec<String> = Knowledge::NAMES.iter().map(|name| (*name).to_owned()).collect();
    html! {
        form.line method="get" action=(PATH) {
            (choice(visit, words::STATE, "state", filter.state.as_deref(), &states))
            (choice(visit, words::MANUFACTURER, "manufacturer", filter.manufacturer.as_deref(), &names(&summary.manufacturers)))
            @if !summary.regions.is_empty() {
                (choice(visit, words::REGION, "region", filter.region.as_deref(), &names(&summary.regions)))
            }
            label.check {
                input type="checkbox" name="alert" value="open" checked[filter.has_alert];
                " " (visit.say(words::ONLY_ALERTS))
            }
            button { (visit.say(words::FILTER)) }
            @if *filter != (PumpFilter { limit: PAGE, ..PumpFilter::default() }) {
                a.button href=(PATH) { (visit.say(words::FILTER_OFF)) }
            }
        }
    }
}

fn choice(visit: &Visit, title: Text, name: &str, chosen: Option<&str>, values: &[String]) -> Markup {
    // One that no heat pump has any more is still what the list is filtered by.
    let is_known = chosen.is_none_or(|chosen| values.iter().any(|value| value == chosen));
    html! {
        label.field {
            span { (visit.say(title)) }
            select name=(name) {
                option value="" { (visit.say(words::ANY)) }
                @if let Some(chosen) = chosen.filter(|_| !is_known) { option value=(chosen) selected { (chosen) } }
                @for value in values { option value=(value) selected[chosen == Some(value.as_str())] { (value) } }
            }
        }
    }
}

fn list(visit: &Visit, filter: &PumpFilter, pumps: &[PumpView]) -> Markup {
    if pumps.is_empty() {
        return visit.empty(words::NO_PUMPS, words::NO_PUMPS_HINT);
    }
    let next = next_of(pumps, PAGE, |pump| pump.heat_pump_id.clone()).map(|last| address(filter, Some(&last)));
    html! {
        table.cards {
            thead { tr {
                th { (visit.say(words::HEAT_PUMP)) } th { (visit.say(words::STATE)) } th { (visit.say(words::ALERT)) }
                th { (visit.say(words::CUSTOMER)) } th { (visit.say(words::MODEL)) } th { (visit.say(words::CHECKED)) }
            } }
            tbody {
                @for pump in pumps { (row(visit, pump)) }
            }
        }
        @if filter.after.is_some() || next.is_some() {
            div.pages {
                @if filter.after.is_some() { a.button href=(address(filter, None)) { (visit.say(words::FIRST_PAGE)) } }
                @if let Some(next) = next { a.button rel="next" href=(next) { (visit.say(words::NEXT_PAGE)) } }
            }
        }
    }
}

fn row(visit: &Visit, pump: &PumpView) -> Markup {
    let model = [&pump.manufacturer, &pump.model].into_iter().flatten().cloned().collect::<Vec<_>>().join(" ");
    html! {
        tr {
            td data-name=(visit.say(words::HEAT_PUMP)) {
                (pump_link(&pump.heat_pump_id))
            }
            td.words data-name=(visit.say(words::STATE)) {
                div {
                    (pump_state_tag(&pump.state))
                    @if let Some(reason) = &pump.reason { " " span.small.soft { (reason) } }
                }
            }
            td data-name=(visit.say(words::ALERT)) {
                @if let Some(alert) = &pump.alert {
                    div { (alert_tag(&alert.cause, &alert.severity)) " " (visit.time(alert.since)) }
                }
            }
            td data-name=(visit.say(words::CUSTOMER)) {
                @if let Some(customer) = &pump.customer_id { (customer_link(customer)) }
            }
            td.words data-name=(visit.say(words::MODEL)) {
                div { (model) @if let Some(region) = &pump.region { " " span.soft { (region) } } }
            }
            td data-name=(visit.say(words::CHECKED)) { (visit.time(pump.checked_at)) }
        }
    }
}

fn groups(visit: &Visit, title: Text, name: &str, groups: &[FleetGroup]) -> Markup {
    let shown: Vec<&str> = Knowledge::NAMES
        .into_iter()
        .filter(|state| groups.iter().any(|group| group.states.contains_key(*state)))
        .collect();
    html! {
        section.panel {
            h2 { (visit.say(title)) }
            table.cards {
                thead { tr { th { (visit.say(title)) } @for state in &shown { th.end { (state) } } } }
                tbody {
                    @for group in groups {
                        tr {
                            td data-name=(visit.say(title)) { a href=(with_query(PATH, &[(name, Some(&group.name))])) { (group.name) } }
                            @for state in &shown {
                                td.end data-name=(state) {
                                    @if let Some(known) = group.states.get(*state) { (count(visit, *known)) } @else { "0" }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
