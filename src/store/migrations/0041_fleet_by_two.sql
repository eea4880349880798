-- Heat pumps page by page, of one state and of one manufacturer or region: in the order of the pages.
CREATE INDEX pumps_by_maker_and_state ON pumps (manufacturer, knowledge, heat_pump) WHERE is_retired = 0;
CREATE INDEX pumps_by_region_and_state ON pumps (region, knowledge, heat_pump) WHERE is_retired = 0 AND region IS NOT NULL;
