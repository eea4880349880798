-- A user counts as removed when lists of users in a row do not name them. Until then they stay on the roster and are polled.
ALTER TABLE watched ADD COLUMN missed_lists BIGINT NOT NULL DEFAULT 0; -- lists in a row that did not name the user
ALTER TABLE watched ADD COLUMN missed_at BIGINT;                       -- the last such list; NULL: the last list named the user

-- One list was enough before: owners of heat pumps that are still watched come back until lists in a row say that they are gone.
INSERT INTO watched (user_id, customer, due_at, since, roster)
    SELECT user_id, MIN(customer), MAX(checked_at), MAX(checked_at), 0 FROM pumps
    WHERE is_retired = 0 AND NOT EXISTS (SELECT 1 FROM watched WHERE watched.user_id = pumps.user_id) GROUP BY user_id;
