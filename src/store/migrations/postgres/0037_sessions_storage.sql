-- For PostgreSQL alone: ids are compared byte by byte, as in SQLite, and a session's row changes on its page.

ALTER TABLE sessions ALTER COLUMN id TYPE TEXT COLLATE "C", ALTER COLUMN digest TYPE TEXT COLLATE "C";
ALTER TABLE sessions SET (fillfactor = 80);
