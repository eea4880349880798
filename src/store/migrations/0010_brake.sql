-- The brake on mass churn: who was admitted, counted under one lock, and what a person approved.

-- NULL | admitted (counted) | approved (by a person, not counted); gone when the event is parked.
ALTER TABLE events ADD COLUMN clearance TEXT;

-- One row per brake: whoever decides holds it until the decision is written down.
CREATE TABLE brakes (
    name        TEXT   PRIMARY KEY,        -- churn_brake
    newest      BIGINT NOT NULL,           -- the number of the admission made last
    admitted_at BIGINT NOT NULL,           -- its moment
    closed_at   BIGINT                     -- when the first of those was refused that nothing was admitted after
);

-- Numbered without a gap, and never older than the one before: two look-ups count a window, however many are in it.
CREATE TABLE admissions (
    brake       TEXT   NOT NULL,
    number      BIGINT NOT NULL,
    event_id    TEXT   NOT NULL,
    admitted_at BIGINT NOT NULL,
    PRIMARY KEY (brake, number)
);
CREATE UNIQUE INDEX admissions_of_event ON admissions (event_id);
CREATE INDEX admissions_by_time ON admissions (brake, admitted_at, number);

-- A retry of many may be an approval, and says what it was ordered for.
ALTER TABLE bulk_retries ADD COLUMN approve BIGINT NOT NULL DEFAULT 0;
ALTER TABLE bulk_retries ADD COLUMN types TEXT; -- how many of each type, as JSON; NULL for those ordered before

-- How many customers are active. Written with each change of a customer; what is there is told from the stored form, in
-- which a customer who came back has personal fields again.
ALTER TABLE lanes ADD COLUMN active BIGINT NOT NULL DEFAULT 0;
UPDATE lanes SET active = 1
    WHERE customer LIKE '{"facts":{"signed_up":{%'
      AND (customer LIKE '%"churned":null,%' OR customer NOT LIKE '%"personal":{}%');
CREATE INDEX lanes_active ON lanes (active) WHERE active = 1;
