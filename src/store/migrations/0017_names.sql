-- Columns get the names that the program uses.
ALTER TABLE events RENAME COLUMN door TO transport;      -- webhook | amqp | import | internal
ALTER TABLE bulk_retries RENAME COLUMN place TO cursor;  -- the event that the retry came to last
ALTER TABLE pumps RENAME COLUMN seen TO record;          -- JSON
ALTER TABLE notices RENAME COLUMN place TO seq;          -- UUIDv7: the order of writing
ALTER TABLE notices RENAME COLUMN line TO order_key;     -- notices of one key go out in order
DROP INDEX notices_line;
CREATE INDEX notices_in_order ON notices (target, order_key, seq) WHERE state = 'pending';
