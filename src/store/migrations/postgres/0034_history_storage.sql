-- For PostgreSQL alone: ids are compared byte by byte, as in SQLite.

ALTER TABLE history ALTER COLUMN replica TYPE TEXT COLLATE "C";
