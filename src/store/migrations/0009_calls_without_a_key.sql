-- A call is written with the end of its claim, which happens once: it needs no key of its own to be there once, and the
-- index of its event finds it. A page of the log less for each event.
ALTER TABLE calls RENAME TO calls_with_key;
CREATE TABLE calls (
    id              TEXT   NOT NULL,       -- UUIDv7: sorts by time
    event_id        TEXT   NOT NULL,
    at              BIGINT NOT NULL,
    operation       TEXT   NOT NULL,
    outcome         TEXT   NOT NULL,
    took_ms         BIGINT NOT NULL,
    idempotency_key TEXT
);
INSERT INTO calls (id, event_id, at, operation, outcome, took_ms, idempotency_key)
    SELECT id, event_id, at, operation, outcome, took_ms, idempotency_key FROM calls_with_key ORDER BY event_id, id;
DROP TABLE calls_with_key;
CREATE INDEX calls_of_event ON calls (event_id, id);
