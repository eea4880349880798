# Zammad, by its Checkmk integration (which any tool may use): POST https://HOST/api/v1/integration/check_mk/TOKEN, as a form.
# Required: event_id, host, state. A state of OK or UP closes the ticket that the same host and service opened.
# $settings: token
.data as $alert
| {
    path: "/api/v1/integration/check_mk/\($settings.token)",
    form: {
      event_id: $alert.occurrence_id,
      host: .subject,
      service: $alert.cause,
      state: (if $alert.action == "trigger" then "CRITICAL" else "OK" end),
      text: ([
        $alert.summary,
        "severity: \($alert.severity)",
        "since: \($alert.since)",
        ($alert.reconnect_url | select(. != null) | "link for the customer: \(.)"),
        ($alert | .customer_id, .manufacturer, .model, .heat_pumps | select(. != null)),
        "resolution: \($alert.resolution // "none")"
      ] | join("\n"))
    }
  }
