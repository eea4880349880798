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
