-- An event's identity is the sender's, within the configured source that it came by: one sender cannot use up the ids of
-- another. Rows from before this migration have no scope, and their identity counts for every source, so that a repeat of
-- an event from before is a duplicate still.
ALTER TABLE events ADD COLUMN scope TEXT NOT NULL DEFAULT ''; -- the source; '' for rows from before: every source
DROP INDEX events_by_origin;
CREATE UNIQUE INDEX events_by_identity ON events (origin, origin_id, scope);
