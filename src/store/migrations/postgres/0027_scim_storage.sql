-- For PostgreSQL alone: ids are compared byte by byte, as in SQLite, and a user's row changes on its page.

ALTER TABLE scim_users ALTER COLUMN lane TYPE TEXT COLLATE "C", ALTER COLUMN id TYPE TEXT COLLATE "C",
    ALTER COLUMN user_name TYPE TEXT COLLATE "C", ALTER COLUMN external_id TYPE TEXT COLLATE "C";
ALTER TABLE scim_users SET (fillfactor = 80);
