-- What is announced ahead can be announced anew: a later word about the same change replaces it before its effect.
ALTER TABLE events ADD COLUMN change TEXT;    -- what it changes: existence, or home/KEY; NULL for what announces nothing
ALTER TABLE events ADD COLUMN said_at BIGINT; -- when it was said; `time` is when it takes effect

CREATE INDEX events_announced ON events (lane) WHERE time > said_at;
