-- Imported work yields: a lane with bulk = 1 has nothing but imported work that is due, and is claimed only when no other
-- lane is due.
ALTER TABLE lanes ADD COLUMN bulk BIGINT NOT NULL DEFAULT 0;

-- Lanes are looked for one kind at a time, each kind by when it is due.
DROP INDEX lanes_ready;
CREATE INDEX lanes_ready ON lanes (bulk, ready_at) WHERE ready_at IS NOT NULL;
