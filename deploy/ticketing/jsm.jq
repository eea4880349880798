# Jira Service Management Operations (and Opsgenie): POST {base}/v2/alerts, header "Authorization: GenieKey …".
# Limits: message 130 characters, alias 512, entity 512, source 100, description 15000. An alias that is open already counts up.
.data as $alert
| {critical: "P1", error: "P2", warning: "P3", info: "P5"} as $priorities
| if $alert.action == "trigger" then
    {
      path: "/v2/alerts",
      json: {
        message: $alert.summary[0:130],
        alias: $alert.dedup_key,
        entity: (.subject[0:512]),
        source: .source,
        priority: $priorities[$alert.severity],
        tags: ["heat-pump", $alert.cause],
        description: (
          "\($alert.summary), since \($alert.since)."
          + if $alert.reconnect_url then "\nLink for the customer: \($alert.reconnect_url)" else "" end
        ),
        # Values of details are texts.
        details: ($alert | del(.summary, .scope, .reconnect_url) | with_entries(select(.value != null) | .value |= (tostring | .[0:1000])))
      }
    }
  else
    {
      path: "/v2/alerts/\($alert.dedup_key | @uri)/close?identifierType=alias",
      json: {source: .source, note: $alert.summary}
    }
  end
