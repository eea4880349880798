-- The oldest program that may work on the store: the one whose newest migration has this number. A migration that only adds leaves it
-- as it is, so that programs of two versions work side by side; one that takes something away raises it (docs/adr/0028).
CREATE TABLE schema_floor (version BIGINT NOT NULL);
INSERT INTO schema_floor (version) VALUES (18);
