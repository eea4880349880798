-- Members of the team, apart from customers: an id of one names none of the other. `lanes.bulk` is 2 in a member's lane.

CREATE TABLE members (
    -- The lane: `member`, a tab, and the id.
    lane TEXT PRIMARY KEY,
    -- JSON.
    state TEXT NOT NULL,
    -- 1: joined and not left.
    active BIGINT NOT NULL,
    -- Podero's id, if it is known.
    user_id TEXT,
    -- The end of the access.
    expires_at BIGINT,
    -- The end of the membership.
    left_at BIGINT
);

-- For the policy: the ends that are known.
CREATE INDEX members_expiring ON members (expires_at) WHERE expires_at IS NOT NULL;

-- For the retention: those who left.
CREATE INDEX members_left ON members (left_at) WHERE left_at IS NOT NULL;

-- The staff and admins at Podero, as one list of a moment.
CREATE TABLE staff_lists (
    name TEXT PRIMARY KEY,
    asked_at BIGINT NOT NULL,
    -- JSON.
    list TEXT NOT NULL
);

-- Losses of access that were decided. Each counts as done until a list shows it.
CREATE TABLE team_decisions (
    event_id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL,
    gone_at BIGINT NOT NULL,
    decided_at BIGINT NOT NULL
);
