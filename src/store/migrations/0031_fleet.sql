-- Heat pumps page by page, of one state, manufacturer or region, or with an open alert: in the order of the pages.
CREATE INDEX pumps_by_state ON pumps (knowledge, heat_pump) WHERE is_retired = 0;
CREATE INDEX pumps_by_maker ON pumps (manufacturer, heat_pump) WHERE is_retired = 0;
CREATE INDEX pumps_by_region ON pumps (region, heat_pump) WHERE is_retired = 0 AND region IS NOT NULL;
-- Not "= 1", by which SQLite would take the index that has no order, and sort.
CREATE INDEX pumps_alerting_by_id ON pumps (heat_pump) WHERE has_alert <> 0;

-- Heat pumps whose owner got a link and that are polled often, to see them come back. A row goes a day after its end.
CREATE TABLE close_watches (
    heat_pump    TEXT   PRIMARY KEY,
    user_id      TEXT   NOT NULL,
    made_at      BIGINT NOT NULL,          -- when the link was made
    until        BIGINT NOT NULL,
    due_at       BIGINT,                   -- the next poll; NULL: it has ended
    connected_at BIGINT                    -- when a poll saw it connected again
);
CREATE INDEX close_watches_due ON close_watches (due_at) WHERE due_at IS NOT NULL;
