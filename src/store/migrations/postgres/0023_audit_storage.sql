-- As for the other tables that each event writes to (0019).
ALTER TABLE audit ALTER COLUMN id TYPE TEXT COLLATE "C", ALTER COLUMN actor TYPE TEXT COLLATE "C",
    ALTER COLUMN action TYPE TEXT COLLATE "C", ALTER COLUMN target_id TYPE TEXT COLLATE "C",
    ALTER COLUMN event_id TYPE TEXT COLLATE "C";

-- Each row is written once and changed once, when it is sealed, on the page where it is.
ALTER TABLE audit SET (fillfactor = 60, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 50000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000, vacuum_truncate = false);
