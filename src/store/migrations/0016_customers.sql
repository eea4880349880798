-- The state of a customer gets a table of its own. Each event changes its lane three times (it arrives, is claimed, ends) and
-- its customer at most once: a lane is a narrow row now, and a customer's row has no index that a change of it would touch.
CREATE TABLE customers (
    lane   TEXT   PRIMARY KEY,             -- none: nothing is known of the customer yet
    state  TEXT   NOT NULL,                -- JSON
    active BIGINT NOT NULL                 -- 1: signed up and has not churned
);
INSERT INTO customers (lane, state, active) SELECT lane, customer, active FROM lanes WHERE customer <> '';
CREATE INDEX customers_active ON customers (active) WHERE active = 1;

-- A new table, since a dropped column would leave its text in PostgreSQL's rows, and in SQLite rows of their old places.
CREATE TABLE narrow_lanes (
    lane        TEXT   PRIMARY KEY,        -- one per customer
    fence       BIGINT NOT NULL,           -- grows with each claim; a result with an older one is dropped
    claimed     BIGINT NOT NULL,           -- 1 while an applier works on it
    interrupted BIGINT NOT NULL,           -- 1 when a claim ended without a result
    begun       TEXT,                      -- the event that was begun and is not settled: it stays the head
    ready_at    BIGINT,                    -- may be claimed from then on: its head is due, or its lease has lapsed
    bulk        BIGINT NOT NULL DEFAULT 0  -- 1: only imported work is due
);
INSERT INTO narrow_lanes (lane, fence, claimed, interrupted, begun, ready_at, bulk)
    SELECT lane, fence, claimed, interrupted, begun, ready_at, bulk FROM lanes;
DROP TABLE lanes;
ALTER TABLE narrow_lanes RENAME TO lanes;
CREATE INDEX lanes_ready ON lanes (bulk, ready_at) WHERE ready_at IS NOT NULL;
