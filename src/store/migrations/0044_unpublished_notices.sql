-- The first and the last waiting notice of an order key. The condition is not the one of notices_due: of two indexes that a look may
-- use, and that seem empty, PostgreSQL takes the smaller one, and so each look at one order key went through all that waits.
-- Programs of the version before find notices by notices_in_order, which goes one release later.
CREATE INDEX notices_unpublished ON notices (target, order_key, seq) WHERE published_at IS NULL;
