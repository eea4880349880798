//! The stores of the run: SQLite files, and databases of the run's own PostgreSQL. The driver's statements have one text for both,
//! as the bridge's have.

use std::path::{Path, PathBuf};

use anyhow::Context;
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _};

use crate::figures::Bench;
use crate::process::Servers;

/// The kind of store in which the bridge keeps what it accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    Sqlite,
    Postgres,
}

impl Kept {
    /// A figure's name. One without a mark is SQLite's.
    pub(crate) fn named(self, name: &str) -> String {
        match self {
            Self::Sqlite => name.to_owned(),
            Self::Postgres => format!("{name} (PostgreSQL)"),
        }
    }

    /// A store that nothing has been written to. On SQLite it is a file of that name.
    pub(crate) fn empty(self, bench: &Bench<'_>, name: &str) -> anyhow::Result<Store> {
        Ok(match self {
            Self::Sqlite => Store::of_file(&bench.folder.join(name)),
            Self::Postgres => Store { url: bench.servers.database()? },
        })
    }
}

/// A store of the run.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    pub(crate) url: String,
}

impl Store {
    pub(crate) fn of_file(file: &Path) -> Self {
        Self { url: format!("sqlite://{}", file.display()) }
    }

    pub(crate) fn kept(&self) -> Kept {
        if self.file().is_some() { Kept::Sqlite } else { Kept::Postgres }
    }

    /// The SQLite file; `None` on PostgreSQL.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        self.url.strip_prefix("sqlite://").map(PathBuf::from)
    }

    /// The name of the database on PostgreSQL.
    pub(crate) fn database(&self) -> anyhow::Result<&str> {
        let (_, name) = self.url.rsplit_once('/').context("a URL with a database")?;
        Ok(name)
    }

    /// A copy of a store on which no process works. On SQLite it is a file of that name next to this one.
    pub(crate) fn copy(&self, servers: &Servers, name: &str) -> anyhow::Result<Self> {
        let Some(file) = self.file() else { return Ok(Self { url: servers.copy_of_database(self.database()?)? }) };
        let to = file.with_file_name(name);
        std::fs::copy(file, &to)?;
        Ok(Self::of_file(&to))
    }

    pub(crate) async fn connect(&self) -> anyhow::Result<AnyConnection> {
        sqlx::any::install_default_drivers();
        Ok(AnyConnection::connect(&self.url).await?)
    }

    /// Lets no checkpoint of a server fall into the next minutes. After one, each page is written whole to the log once.
    pub(crate) async fn checkpoint(&self) -> anyhow::Result<()> {
        match self.kept() {
            Kept::Sqlite => Ok(()),
            Kept::Postgres => self.run("CHECKPOINT").await,
        }
    }

    /// Runs statements without values.
    pub(crate) async fn run(&self, statements: impl Into<String>) -> anyhow::Result<()> {
        let mut connection = self.connect().await?;
        sqlx::raw_sql(AssertSqlSafe(statements.into())).execute(&mut connection).await?;
        // A copy of a database needs it alone.
        Ok(connection.close().await?)
    }
}
