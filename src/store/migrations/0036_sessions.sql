-- Sessions of operators at the console. Of the secret that a browser holds only the digest is here.
CREATE TABLE sessions (
    id         TEXT   NOT NULL PRIMARY KEY,  -- UUIDv7; names the session in lists, and opens nothing
    digest     TEXT   NOT NULL,              -- SHA-256 of the secret
    operator   TEXT   NOT NULL,              -- empty: by the login link of a sandbox, whose caller has no name
    created_at BIGINT NOT NULL,
    seen_at    BIGINT NOT NULL               -- the last request, to the minute
);
CREATE UNIQUE INDEX sessions_by_digest ON sessions (digest);
-- The sessions of an operator, which end together.
CREATE INDEX sessions_by_operator ON sessions (operator, id);
