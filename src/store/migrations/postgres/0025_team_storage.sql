-- For PostgreSQL alone: ids are compared byte by byte, as in SQLite, and a member's row changes on its page.

ALTER TABLE members ALTER COLUMN lane TYPE TEXT COLLATE "C", ALTER COLUMN user_id TYPE TEXT COLLATE "C";
ALTER TABLE staff_lists ALTER COLUMN name TYPE TEXT COLLATE "C";
ALTER TABLE team_decisions ALTER COLUMN event_id TYPE TEXT COLLATE "C", ALTER COLUMN user_id TYPE TEXT COLLATE "C";
ALTER TABLE members SET (fillfactor = 80);
