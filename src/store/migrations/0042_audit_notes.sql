-- The customer or the member of the team that a note of the audit log is about, once the event that the note is about is no longer kept:
-- an erasure finds the note by it.
CREATE TABLE audit_notes (
    audit_id TEXT NOT NULL PRIMARY KEY,
    lane     TEXT NOT NULL
);
CREATE INDEX audit_notes_of_lane ON audit_notes (lane);
