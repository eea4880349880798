-- One index of parked events: by arrival, of one reason or of all.
DROP INDEX events_parked;
DROP INDEX events_parked_by_id;
CREATE INDEX events_parked ON events (id, reason) WHERE state = 'parked';

-- The index of lanes finds messages that never became an event as well: their lane is NULL.
DROP INDEX events_illegible;

-- An erasure reads them page by page. Not by "lane IS NULL", for which SQLite takes the index of lanes, and sorts all of them for each
-- page.
DROP INDEX events_messages;
CREATE INDEX events_messages ON events (id) WHERE COALESCE(lane, '') = '';
