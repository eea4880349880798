-- For PostgreSQL alone: ids are compared byte by byte, as in SQLite.

ALTER TABLE close_watches ALTER COLUMN heat_pump TYPE TEXT COLLATE "C", ALTER COLUMN user_id TYPE TEXT COLLATE "C";
