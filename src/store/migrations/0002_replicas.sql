-- What replicas tell each other. One text for SQLite and PostgreSQL: TEXT and BIGINT only, moments as microseconds
-- since 1970 in UTC.

-- Which replicas live: each says so every few seconds. They share the budget of calls to Podero.
CREATE TABLE replicas (
    id      TEXT   PRIMARY KEY,
    seen_at BIGINT NOT NULL
);

-- What they know together. name: standing (how Podero stands: pause, pace, circuit) | blindness (the open alert that
-- the bridge cannot see).
CREATE TABLE shared (
    name    TEXT   PRIMARY KEY,
    value   TEXT   NOT NULL,
    version BIGINT NOT NULL               -- grows with each change; guards against two writers
);
