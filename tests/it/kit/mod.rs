//! Code that tests share: a database of one test, a store on it, one scenario on both kinds of database; a browser.

mod browser;
mod database;
mod store;

pub use browser::Browser;
pub use database::{Fixture, TestDatabase, run, sqlite_url};
pub use store::{StoreFixture, arrival_of};

use podero_bridge::domain::identity::Actor;

/// The one who acts in tests that are not about who it is.
pub const BY: &Actor = &Actor::Bridge;

/// One scenario, two tests: the fixture that it takes is opened on SQLite and on PostgreSQL.
macro_rules! on_both_databases {
    ($($scenario:ident)*) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $scenario() {
                crate::kit::run(crate::kit::TestDatabase::sqlite, super::$scenario).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $scenario() {
                crate::kit::run(crate::kit::TestDatabase::postgres, super::$scenario).await;
            })*
        }
    };
}

pub(crate) use on_both_databases;
