-- Customers by their e-mail address, of which only a keyed hash is indexed. NULL: not hashed yet, by a version before this one or
-- before this migration, which a step of the upkeep makes up for; empty: no address is known.
ALTER TABLE customers ADD COLUMN email_hash TEXT;
CREATE INDEX customers_by_email ON customers (email_hash, lane) WHERE email_hash <> '';
CREATE INDEX customers_unhashed ON customers (lane) WHERE email_hash IS NULL;
