-- What came beside the bytes of a message that never became an event: content type, headers, message id, routing key,
-- as JSON. NULL for events, and for what was parked before this migration.
ALTER TABLE events ADD COLUMN envelope TEXT;
