-- The last two days in buckets of ten minutes, for charts: a row for each bucket and replica, written about once a minute.
CREATE TABLE history (
    at              BIGINT NOT NULL,       -- the beginning of the bucket
    replica         TEXT   NOT NULL,
    received        BIGINT NOT NULL,       -- what the replica counted in the bucket
    settled         BIGINT NOT NULL,
    calls_refused   BIGINT NOT NULL,
    pending         BIGINT,                -- the most that it saw; NULL: the tables could not be counted
    parked          BIGINT,
    oldest_age      BIGINT,                -- seconds
    alerts_open     BIGINT,
    PRIMARY KEY (at, replica)
);
