# PagerDuty Events API v2: POST https://events.pagerduty.com/v2/enqueue
# Limits: dedup_key 255 characters, summary 1024, the whole 512 KB. A resolve without an open alert is dropped there.
# $settings: routing_key
.data as $alert
| {
    path: "/v2/enqueue",
    json: {
      routing_key: $settings.routing_key,
      event_action: $alert.action,
      dedup_key: $alert.dedup_key,
      payload: {
        summary: $alert.summary,
        # One subject has one source, whatever its cause.
        source: .subject[0:255],
        severity: $alert.severity,
        timestamp: $alert.since,
        component: (($alert.manufacturer // "heat pump")[0:255]),
        group: (($alert.customer_id // "fleet")[0:255]),
        class: $alert.cause,
        custom_details: ($alert | del(.summary, .dedup_key, .action))
      },
      links: [$alert.reconnect_url // empty | {href: ., text: "Link for the customer"}]
    }
  }
