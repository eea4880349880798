-- The audit log: who did what to which thing. Rows are only added; the retention removes the oldest, an erasure empties target_id,
-- salt and note of a customer's rows, and number and hash are set once, when a row is sealed into the chain (docs/AUDIT.md).
CREATE TABLE audit (
    id            TEXT   NOT NULL PRIMARY KEY,  -- UUIDv7
    at            BIGINT NOT NULL,
    actor         TEXT   NOT NULL,
    action        TEXT   NOT NULL,
    target_kind   TEXT   NOT NULL,
    target_id     TEXT,                         -- NULL: erased
    salt          TEXT,                         -- NULL: erased
    target_digest TEXT   NOT NULL,              -- SHA-256 of salt and target_id
    outcome       TEXT   NOT NULL,
    reason        TEXT,
    event_id      TEXT,
    was           TEXT,
    became        TEXT,
    note          TEXT,
    note_digest   TEXT,
    number        BIGINT,                       -- NULL: not sealed yet
    hash          TEXT
);

-- The rows to be sealed next, few.
CREATE INDEX audit_unsealed ON audit (id) WHERE number IS NULL;
-- The chain. Two rows of one number would be two chains.
CREATE UNIQUE INDEX audit_chain ON audit (number) WHERE number IS NOT NULL;
-- The rows of an event. Of sealed rows alone, so that they are added many at a time; events are in the order of time, so that they
-- come to the end of it.
CREATE INDEX audit_by_event ON audit (event_id) WHERE number IS NOT NULL;
-- The acts of persons, tokens and the bridge itself: few next to those of events. There is no index of all rows by target, since
-- customers come in any order: each row would move a page of its own.
CREATE INDEX audit_by_target ON audit (target_id, id) WHERE substr(actor, 1, 7) <> 'source:';
CREATE INDEX audit_by_actor ON audit (actor, id) WHERE substr(actor, 1, 7) <> 'source:';
CREATE INDEX audit_by_action ON audit (action, id) WHERE substr(actor, 1, 7) <> 'source:';

-- The head of the chain, and the head before the oldest row that is left. `trim_from` is that head as it was before the removal of
-- old rows that is under way.
CREATE TABLE audit_head (
    one          BIGINT NOT NULL PRIMARY KEY,
    sealed       BIGINT NOT NULL,
    hash         TEXT   NOT NULL,
    trimmed      BIGINT NOT NULL,
    trimmed_hash TEXT   NOT NULL,
    trim_from    TEXT
);
INSERT INTO audit_head (one, sealed, hash, trimmed, trimmed_hash) VALUES (1, 0,
    '0000000000000000000000000000000000000000000000000000000000000000', 0,
    '0000000000000000000000000000000000000000000000000000000000000000');
