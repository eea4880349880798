-- The watch knows more: fleets, regions, reasons, and polls that are under way.

-- A poll that was begun leaves its due time as it is, so that a crash in the middle loses none.
ALTER TABLE watched ADD COLUMN taken_until BIGINT NOT NULL DEFAULT 0; -- somebody polls this user until then
ALTER TABLE watched ADD COLUMN region TEXT;                            -- where its owner lives, if regions are watched

-- What many that went at once have in common; filled in by the next poll of each pump.
ALTER TABLE pumps ADD COLUMN manufacturer TEXT;
ALTER TABLE pumps ADD COLUMN region TEXT;
ALTER TABLE pumps ADD COLUMN lost_at BIGINT;                           -- when it went, if it was seen to
CREATE INDEX pumps_of_maker ON pumps (manufacturer, knowledge, lost_at) WHERE is_retired = 0;
CREATE INDEX pumps_of_region ON pumps (region, knowledge, lost_at) WHERE is_retired = 0 AND region IS NOT NULL;

-- "Unknown" has a reason now.
UPDATE pumps SET seen = REPLACE(seen, '"knowledge":"unknown"', '"knowledge":{"unknown":"not_said"}');
