-- As for the other tables (0019).
ALTER TABLE audit_notes ALTER COLUMN audit_id TYPE TEXT COLLATE "C", ALTER COLUMN lane TYPE TEXT COLLATE "C";
