-- One index finds a lane's head and its history: each that is kept costs a page of the log with every event.
DROP INDEX events_head;
DROP INDEX events_of_lane;
CREATE INDEX events_of_lane ON events (lane, state, time, id);

-- The same conditions without IN: for a list of three SQLite makes a table in memory whenever it looks at one row.
DROP INDEX events_unsettled;
CREATE INDEX events_unsettled ON events (state, tries_from)
    WHERE state = 'pending' OR state = 'waiting' OR state = 'scheduled';
DROP INDEX events_settled;
CREATE INDEX events_settled ON events (settled_at)
    WHERE state = 'applied' OR state = 'superseded' OR state = 'skipped';
