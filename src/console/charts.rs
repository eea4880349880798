//! The last day as small charts: drawn on the server, with a title and a description each, and a table of the same numbers.
//!
//! Before: [`super::overview`]. After: the browser, which needs no script for them.

use maud::{Markup, html};

use super::visit::Visit;
use super::words::{self, Text};
use crate::domain::Timestamp;
use crate::store::{BUCKET, BucketView, bucket_of};

/// Buckets of a day.
const BUCKETS: usize = 144;

/// Buckets of a row of the table: an hour.
const BUCKETS_OF_HOUR: usize = 6;

/// Width of a bucket in the units of the drawing, and the height of the whole.
const BUCKET_WIDTH: u64 = 2;
const HEIGHT: u64 = 48;

/// How numbers of several buckets become one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fold {
    Sum,
    Most,
}

/// A number of each bucket.
#[derive(Clone, Copy)]
struct Series {
    id: &'static str,
    name: Text,
    fold: Fold,
    of: fn(&BucketView) -> Option<u64>,
}

const RECEIVED: Series =
    Series { id: "received", name: words::EVENTS_RECEIVED, fold: Fold::Sum, of: |it| Some(it.received) };
const SETTLED: Series =
    Series { id: "settled", name: words::EVENTS_SETTLED, fold: Fold::Sum, of: |it| Some(it.settled) };
const REFUSED: Series =
    Series { id: "refused", name: words::CALLS_REFUSED, fold: Fold::Sum, of: |it| Some(it.calls_refused) };
const PENDING: Series = Series { id: "pending", name: words::PENDING, fold: Fold::Most, of: |it| it.pending };
const OLDEST: Series = Series { id: "oldest", name: words::OLDEST_SECONDS, fold: Fold::Most, of: |it| it.oldest_age };
const PARKED: Series = Series { id: "parked", name: words::PARKED_EVENTS, fold: Fold::Most, of: |it| it.parked };
const ALERTS: Series = Series { id: "alerts", name: words::OPEN_ALERTS, fold: Fold::Most, of: |it| it.alerts_open };

const SHOWN: [Series; 7] = [RECEIVED, SETTLED, PENDING, OLDEST, PARKED, ALERTS, REFUSED];

/// The buckets of the day that ends now, oldest first; `None`: no bridge ran in it.
struct Day<'a> {
    from: Timestamp,
    buckets: Vec<Option<&'a BucketView>>,
}

impl<'a> Day<'a> {
    fn of(history: &'a [BucketView], now: Timestamp) -> Self {
        let first = bucket_of(now).minus(BUCKET * u32::try_from(BUCKETS - 1).unwrap_or(0));
        let at = |number: usize| first.plus(BUCKET * u32::try_from(number).unwrap_or(0));
        let bucket = |number| history.iter().find(|bucket| bucket.at == at(number));
        Self { from: first, buckets: (0..BUCKETS).map(bucket).collect() }
    }

    fn values(&self, series: Series) -> Vec<Option<u64>> {
        self.buckets.iter().map(|bucket| bucket.and_then(series.of)).collect()
    }
}

/// The charts of the last day, and their numbers.
pub(super) fn last_day(visit: &Visit, history: &[BucketView]) -> Markup {
    let day = Day::of(history, visit.now);
    html! {
        section.panel {
            h2 { (visit.say(words::LAST_DAY)) }
            @if history.is_empty() { p.soft { (visit.say(words::NO_HISTORY)) } }
            @else {
                div.charts { @for series in SHOWN { (chart(visit, &day, series)) } }
                (numbers(visit, &day))
            }
        }
    }
}

/// One chart: a bar for each bucket, as high as its share of the highest.
fn chart(visit: &Visit, day: &Day<'_>, series: Series) -> Markup {
    let values = day.values(series);
    let most = values.iter().flatten().copied().max().unwrap_or(0);
    let last = values.iter().rev().flatten().next().copied();
    let [title, about] = ["title", "about"].map(|part| format!("chart-{}-{part}", series.id));
    let shown = |value: Option<u64>| value.map_or_else(|| "–".to_owned(), |value| value.to_string());
    let view = format!("0 0 {} {HEIGHT}", BUCKET_WIDTH * u64::try_from(BUCKETS).unwrap_or(0));
    html! {
        figure.chart {
            figcaption { span { (visit.say(series.name)) } span.soft { (visit.say_with(words::MOST, &[&most.to_string()])) } }
            svg viewBox=(view) preserveAspectRatio="none" role="img" aria-labelledby=(format!("{title} {about}")) {
                title id=(title) { (visit.say(series.name)) }
                desc id=(about) { (visit.say_with(words::CHART_ABOUT, &[&most.to_string(), &shown(last)])) }
                @for (number, value) in values.iter().enumerate() {
                    @if let Some(value) = value {
                        @let height = height_of(*value, most);
                        rect x=(BUCKET_WIDTH * u64::try_from(number).unwrap_or(0)) y=(HEIGHT - height) width="1.6" height=(height) {}
                    }
                }
            }
            div.axis.soft.small { span { (visit.say(words::A_DAY_AGO)) } span { (visit.say(words::NOW)) } }
        }
    }
}

/// The height of a bar: at least a line for a value that is not zero.
fn height_of(value: u64, most: u64) -> u64 {
    let share = value.saturating_mul(HEIGHT).checked_div(most).unwrap_or(0);
    if value == 0 { 0 } else { share.clamp(1, HEIGHT) }
}

/// The same numbers as a table, an hour a row, the newest first.
fn numbers(visit: &Visit, day: &Day<'_>) -> Markup {
    let columns: Vec<(Series, Vec<Option<u64>>)> =
        SHOWN.into_iter().map(|series| (series, day.values(series))).collect();
    let hours = (0..BUCKETS / BUCKETS_OF_HOUR).rev();
    let begins = |hour: usize| day.from.plus(BUCKET * u32::try_from(hour * BUCKETS_OF_HOUR).unwrap_or(0));
    html! {
        details {
            summary.small { (visit.say(words::NUMBERS)) }
            table.cards {
                thead { tr { th { (visit.say(words::HOUR_FROM)) } @for (series, _) in &columns { th.end { (visit.say(series.name)) } } } }
                tbody {
                    @for hour in hours {
                        tr {
                            td data-name=(visit.say(words::HOUR_FROM)) { (visit.zone.show(begins(hour))) }
                            @for (series, values) in &columns {
                                @let of_hour = &values[hour * BUCKETS_OF_HOUR..(hour + 1) * BUCKETS_OF_HOUR];
                                td.end data-name=(visit.say(series.name)) {
                                    @if let Some(value) = folded(of_hour, series.fold) { (value) } @else { "–" }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn folded(values: &[Option<u64>], fold: Fold) -> Option<u64> {
    let known = values.iter().flatten().copied();
    match fold {
        Fold::Sum => known.reduce(u64::saturating_add),
        Fold::Most => known.max(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_high_as_its_share_and_none_is_invisible() {
        for (value, most, expected) in [(0, 0, 0), (0, 9, 0), (9, 9, HEIGHT), (1, 1_000_000, 1), (5, 10, HEIGHT / 2)] {
            assert_eq!(height_of(value, most), expected, "{value} of {most}");
        }
        assert_eq!(height_of(u64::MAX, u64::MAX), 1, "no overflow");
    }

    #[test]
    fn an_hour_has_the_sum_or_the_most_of_what_is_known() {
        assert_eq!(folded(&[Some(1), None, Some(3)], Fold::Sum), Some(4));
        assert_eq!(folded(&[Some(1), None, Some(3)], Fold::Most), Some(3));
        assert_eq!(folded(&[None, None], Fold::Sum), None);
    }
}
