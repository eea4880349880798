-- One text for SQLite and PostgreSQL: TEXT and BIGINT only, moments as microseconds since 1970 in UTC.

-- The inbox. The row that remembers an event's identity is the work item itself.
-- state: pending -> applied | superseded | parked | waiting | (pending, later); scheduled, waiting -> pending;
--        parked -> pending (retry) | skipped
CREATE TABLE events (
    id            TEXT   PRIMARY KEY,      -- UUIDv7: sorts by arrival
    lane          TEXT,                    -- the customer; NULL for what never became an event
    origin        TEXT   NOT NULL,         -- with origin_id: the sender's identity of the event
    origin_id     TEXT   NOT NULL,
    source        TEXT   NOT NULL,         -- the configured source it came by
    door          TEXT   NOT NULL,         -- webhook | amqp | internal
    type          TEXT   NOT NULL,
    time          BIGINT NOT NULL,         -- when it happened or takes effect; with id the order in its lane
    received_at   BIGINT NOT NULL,
    tries_from    BIGINT NOT NULL,         -- arrival, the day it takes effect, or the last retry by hand: waiting counts from here
    due_at        BIGINT NOT NULL,         -- not before
    state         TEXT   NOT NULL,
    failures      BIGINT NOT NULL,
    failing_since BIGINT,
    reason        TEXT,
    detail        TEXT,                    -- free of personal data
    digest        TEXT   NOT NULL,         -- of the content, to tell a repeat from a reused id
    event         TEXT,                    -- the translated event
    raw           TEXT   NOT NULL,         -- the original bytes, as text or base64
    raw_encoding  TEXT   NOT NULL,
    settled_at    BIGINT
);
CREATE UNIQUE INDEX events_by_origin ON events (origin, origin_id);
CREATE INDEX events_head ON events (lane, time, id) WHERE state = 'pending';
CREATE INDEX events_of_lane ON events (lane, id);
CREATE INDEX events_later ON events (due_at) WHERE state IN ('scheduled', 'waiting');
CREATE INDEX events_unsettled ON events (state, tries_from) WHERE state IN ('pending', 'waiting', 'scheduled');
CREATE INDEX events_parked ON events (reason, id) WHERE state = 'parked';

-- One row per customer: what we know of the customer, and who works on it.
CREATE TABLE lanes (
    lane        TEXT   PRIMARY KEY,
    customer    TEXT   NOT NULL,
    fence       BIGINT NOT NULL,           -- grows with each claim; a result with an older one is dropped
    claimed     BIGINT NOT NULL,           -- 1 while somebody works on it
    interrupted BIGINT NOT NULL,           -- 1 when a claim ended without a result
    begun       TEXT,                      -- the event that was begun and is not settled: it stays the head
    ready_at    BIGINT                     -- may be claimed from then on: its head is due, or its lease has lapsed
);
CREATE INDEX lanes_ready ON lanes (ready_at) WHERE ready_at IS NOT NULL;

-- The calls made for each event.
CREATE TABLE calls (
    id              TEXT   PRIMARY KEY,
    event_id        TEXT   NOT NULL,
    at              BIGINT NOT NULL,
    operation       TEXT   NOT NULL,
    outcome         TEXT   NOT NULL,
    took_ms         BIGINT NOT NULL,
    idempotency_key TEXT
);
CREATE INDEX calls_of_event ON calls (event_id, id);

-- The outbox: one row per outgoing event and target. state: pending -> published; kept where there is no target.
CREATE TABLE notices (
    id           TEXT   NOT NULL,
    target       TEXT   NOT NULL,          -- amqp | webhook | none
    place        TEXT   NOT NULL,          -- UUIDv7: the order of writing
    topic        TEXT   NOT NULL,
    line         TEXT   NOT NULL,          -- one line's notices go out in order
    customer     TEXT,
    body         TEXT   NOT NULL,          -- the CloudEvent as it is sent
    created_at   BIGINT NOT NULL,
    due_at       BIGINT NOT NULL,
    failures     BIGINT NOT NULL,
    outcome      TEXT,                     -- of the last attempt
    state        TEXT   NOT NULL,
    published_at BIGINT,
    PRIMARY KEY (id, target)
);
CREATE INDEX notices_due ON notices (target, due_at) WHERE state = 'pending';
CREATE INDEX notices_line ON notices (target, line, place) WHERE state = 'pending';
CREATE INDEX notices_of_customer ON notices (customer, place);

-- Whose heat pumps are polled.
CREATE TABLE watched (
    user_id  TEXT   PRIMARY KEY,
    customer TEXT,
    due_at   BIGINT NOT NULL,
    since    BIGINT NOT NULL,              -- when it came onto the roster
    polled_at BIGINT,                      -- last time the answer was complete
    roster   BIGINT NOT NULL               -- the roster that named the user last
);
CREATE INDEX watched_due ON watched (due_at);

-- What was seen of each heat pump.
CREATE TABLE pumps (
    heat_pump  TEXT   PRIMARY KEY,
    user_id    TEXT   NOT NULL,
    customer   TEXT,
    knowledge  TEXT   NOT NULL,
    is_retired BIGINT NOT NULL,
    has_alert  BIGINT NOT NULL,
    seen       TEXT   NOT NULL,
    version    BIGINT NOT NULL,
    checked_at BIGINT NOT NULL
);
CREATE INDEX pumps_of_user ON pumps (user_id);
CREATE INDEX pumps_of_customer ON pumps (customer);
CREATE INDEX pumps_alerting ON pumps (has_alert) WHERE has_alert = 1;

-- When each recurring duty is due next, shared by all replicas.
CREATE TABLE duties (
    name   TEXT   PRIMARY KEY,
    due_at BIGINT NOT NULL
);
