-- Users of SCIM: what an identity provider said that no fact of a member holds.

CREATE TABLE scim_users (
    -- The lane of the member.
    lane TEXT PRIMARY KEY,
    -- The bridge's id of the user.
    id TEXT NOT NULL,
    -- In lower case; NULL: the user is deleted.
    user_name TEXT,
    external_id TEXT,
    -- JSON.
    record TEXT NOT NULL
);

CREATE UNIQUE INDEX scim_users_by_id ON scim_users (id);
CREATE UNIQUE INDEX scim_users_by_name ON scim_users (user_name) WHERE user_name IS NOT NULL;
CREATE UNIQUE INDEX scim_users_by_external_id ON scim_users (external_id) WHERE external_id IS NOT NULL;
