-- Parked events by reason and by when they were parked: groups, previews and narrowed retries read no more of them than they show.
-- Not of the column itself, by which SQLite would then also look for a page of one reason, and sort all of them for it.
CREATE INDEX events_parked_groups ON events (COALESCE(reason, ''), settled_at) WHERE state = 'parked';

-- An order may name a source, and the moment since which its events were parked. NULL: it does not.
ALTER TABLE bulk_retries ADD COLUMN source TEXT;
ALTER TABLE bulk_retries ADD COLUMN since BIGINT;
