-- Whether the owner of the heat pump asked for the link on a page of the bridge (1), or an agent (0).
ALTER TABLE close_watches ADD COLUMN by_owner BIGINT NOT NULL DEFAULT 0;
