# A billing system's messages: one object each, times of day in Germany, ZIP codes as numbers.
# Tried by `podero-bridge test deploy/mappings/billing`.

def address:
  if . == null then null
  else {
    street_and_number: "\(.street) \(.houseNumber)",
    zip_code: (.zip | zip_code(5)),
    town: .city,
    country: (.country // "DE" | country_code)
  } | given
  end;

def event($type; data): {
  id: .messageId,
  source: "/billing",
  type: $type,
  time: (.createdAt | date_time("Europe/Berlin")),
  data: ({customer_id: (.account.number | tostring)} + data | given)
};

if .messageType == "ACCOUNT_OPENED" then
  event("customer.signed_up"; {
    email: .account.email,
    first_name: .account.firstName,
    last_name: .account.lastName,
    address: (.account.address | address),
    building: (.account.houseType | if . == null then null else {property_type: property_type} end)
  })
elif .messageType == "ADDRESS_CHANGED" then
  event("customer.moved"; {
    address: (.newAddress | address),
    effective_at: (.validFrom | date_time("Europe/Berlin"))
  })
elif .messageType == "ACCOUNT_CLOSED" then
  event("customer.churned"; {
    effective_at: (.closedOn | date_time("Europe/Berlin")),
    reason: .reason
  })
else
  # Invoices and the like are none of our business.
  empty
end
