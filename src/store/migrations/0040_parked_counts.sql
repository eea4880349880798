-- Counts of parked events by reason read this index alone. PostgreSQL does that only if the column of the expression is in it as well.
-- The old one goes last: that takes a lock which lets nobody read.
CREATE INDEX events_parked_counts ON events (COALESCE(reason, ''), settled_at, source, type, lane, reason) WHERE state = 'parked';
DROP INDEX events_parked_groups;
