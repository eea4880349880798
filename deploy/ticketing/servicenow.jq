# ServiceNow Event Management: POST https://INSTANCE.service-now.com/api/global/em/jsonv2
# Limits: 100 characters a field, but for description and additional_info. Severity 1 is critical, 5 information, 0 clears.
.data as $alert
| {critical: "1", error: "2", warning: "4", info: "5"} as $severities
| {
    path: "/api/global/em/jsonv2",
    json: {
      records: [{
        source: .source[0:100],
        event_class: "heat pumps",
        node: .subject[0:100],
        type: $alert.cause,
        resource: (($alert.manufacturer // "")[0:100]),
        metric_name: "connectivity",
        message_key: $alert.dedup_key,
        severity: (if $alert.action == "trigger" then $severities[$alert.severity] else "0" end),
        resolution_state: (if $alert.action == "trigger" then "New" else "Closing" end),
        # In UTC, without fractions.
        time_of_event: ((if $alert.action == "trigger" then $alert.detected_at else .time end)[0:19] | sub("T"; " ")),
        description: ($alert.summary + if $alert.reconnect_url then "\nLink for the customer: \($alert.reconnect_url)" else "" end),
        additional_info: ($alert | del(.summary) | tojson)
      }]
    }
  }
