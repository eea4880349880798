-- What came beside the bytes of a message that never became an event: content type, headers, message id, routing key,
-- as JSON. NULL for events, and for what was parked before this migration.
ALTER TABLE events ADD COLUMN envelope TEXT;

-- They have a bound of their own, and are skipped many at once.
CREATE INDEX events_illegible ON events (id) WHERE state = 'parked' AND lane IS NULL;

-- An erasure looks through all of them.
CREATE INDEX events_messages ON events (id) WHERE lane IS NULL;
