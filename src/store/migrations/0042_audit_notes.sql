-- Whom the notes of the audit log are about: an erasure finds them although the event that a note is about is no longer kept.
CREATE TABLE audit_notes (
    audit_id TEXT NOT NULL PRIMARY KEY,
    lane     TEXT NOT NULL                 -- a customer, or a member of the team
);
CREATE INDEX audit_notes_of_lane ON audit_notes (lane);
INSERT INTO audit_notes (audit_id, lane) SELECT audit.id, events.lane FROM audit JOIN events ON events.id = audit.event_id
    WHERE audit.note IS NOT NULL AND events.lane IS NOT NULL;
