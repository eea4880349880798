-- Retries of many parked events at once, paced. One runs at a time.
CREATE TABLE bulk_retries (
    id         TEXT   PRIMARY KEY,         -- UUIDv7
    reason     TEXT,                       -- NULL: whatever the reason
    per_second BIGINT NOT NULL,
    ordered_at BIGINT NOT NULL,            -- what was parked later is not covered
    total      BIGINT NOT NULL,
    retried    BIGINT NOT NULL,
    place      TEXT   NOT NULL,            -- the event it came to last; it never goes back
    due_at     BIGINT NOT NULL,            -- the next event not before
    state      TEXT   NOT NULL,            -- running -> done | stopped
    ended_at   BIGINT
);
CREATE UNIQUE INDEX bulk_retries_running ON bulk_retries (state) WHERE state = 'running';
CREATE INDEX events_parked_by_id ON events (id) WHERE state = 'parked';

-- What is old enough to be forgotten.
CREATE INDEX events_settled ON events (settled_at) WHERE state IN ('applied', 'superseded', 'skipped');
CREATE INDEX notices_ended ON notices (created_at) WHERE state IN ('published', 'kept');

-- Customers whose data was erased: enough to know one of their events when it comes again, and no more.
CREATE TABLE tombstones (
    customer  TEXT   PRIMARY KEY,          -- keyed hash of the customer's id
    erased_at BIGINT NOT NULL              -- what happened until then is of the erased customer
);
-- The key of these hashes, unless it is configured; and what it makes of a fixed text, to know a changed one.
CREATE TABLE erasure_keys (
    name  TEXT PRIMARY KEY,                -- key | mark
    value TEXT NOT NULL
);
