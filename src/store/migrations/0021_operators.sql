-- People who use the admin API under a name and a password of their own.
CREATE TABLE operators (
    name          TEXT   PRIMARY KEY,
    role          TEXT   NOT NULL,         -- viewer, support or admin
    password_hash TEXT   NOT NULL,         -- PHC string of Argon2id, with its parameters and salt
    created_at    BIGINT NOT NULL,
    changed_at    BIGINT NOT NULL          -- of role or password
);
