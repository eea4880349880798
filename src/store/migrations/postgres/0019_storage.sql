-- For PostgreSQL alone: the order of texts, and how its tables are stored.

-- Ids are compared byte by byte, as in SQLite: faster than by the rules of a language, and the same whatever the server's are.
ALTER TABLE events ALTER COLUMN id TYPE TEXT COLLATE "C", ALTER COLUMN lane TYPE TEXT COLLATE "C",
    ALTER COLUMN origin TYPE TEXT COLLATE "C", ALTER COLUMN origin_id TYPE TEXT COLLATE "C",
    ALTER COLUMN scope TYPE TEXT COLLATE "C", ALTER COLUMN state TYPE TEXT COLLATE "C";
ALTER TABLE lanes ALTER COLUMN lane TYPE TEXT COLLATE "C", ALTER COLUMN begun TYPE TEXT COLLATE "C";
ALTER TABLE customers ALTER COLUMN lane TYPE TEXT COLLATE "C";
ALTER TABLE calls ALTER COLUMN id TYPE TEXT COLLATE "C", ALTER COLUMN event_id TYPE TEXT COLLATE "C";
ALTER TABLE notices ALTER COLUMN id TYPE TEXT COLLATE "C", ALTER COLUMN target TYPE TEXT COLLATE "C",
    ALTER COLUMN seq TYPE TEXT COLLATE "C", ALTER COLUMN order_key TYPE TEXT COLLATE "C",
    ALTER COLUMN customer TYPE TEXT COLLATE "C";
ALTER TABLE watched ALTER COLUMN user_id TYPE TEXT COLLATE "C", ALTER COLUMN customer TYPE TEXT COLLATE "C";
ALTER TABLE pumps ALTER COLUMN heat_pump TYPE TEXT COLLATE "C", ALTER COLUMN user_id TYPE TEXT COLLATE "C",
    ALTER COLUMN customer TYPE TEXT COLLATE "C";
ALTER TABLE tombstones ALTER COLUMN customer TYPE TEXT COLLATE "C";
ALTER TABLE replicas ALTER COLUMN id TYPE TEXT COLLATE "C";
ALTER TABLE bulk_retries ALTER COLUMN id TYPE TEXT COLLATE "C", ALTER COLUMN cursor TYPE TEXT COLLATE "C";
ALTER TABLE admissions ALTER COLUMN event_id TYPE TEXT COLLATE "C";

-- Room on each page for the next version of a row: an update that changes no indexed column then touches no index (customers), and any
-- other stays on its page, where the room of the version before is used again without a vacuum.
ALTER TABLE customers SET (fillfactor = 80);
ALTER TABLE lanes SET (fillfactor = 70);
ALTER TABLE events SET (fillfactor = 85);
ALTER TABLE notices SET (fillfactor = 85);
ALTER TABLE watched SET (fillfactor = 80);
ALTER TABLE pumps SET (fillfactor = 80);

-- Every event leaves some dead rows, and the head of a queue is found past the index entries of all that are not cleaned up yet. A
-- share of the table, the default, would let a store of a million events collect two hundred thousand of them. A vacuum does not give
-- pages back to the disk: that takes a lock which stops all work on the table, and the pages are needed again.
ALTER TABLE lanes SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000, vacuum_truncate = false);
ALTER TABLE customers SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000, vacuum_truncate = false);
ALTER TABLE events SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000, vacuum_truncate = false);
ALTER TABLE notices SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000, vacuum_truncate = false);

-- The name that the index of a table's key has.
ALTER INDEX narrow_lanes_pkey RENAME TO lanes_pkey;
