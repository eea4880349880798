# A billing system's messages: one object each, times of day in Germany, ZIP codes as numbers.
# Tried by `podero-bridge test deploy/mappings/billing`.

def address:
  if is_given | not then null
  else
    # Without a country it is ours. How many digits a ZIP code has follows the country.
    (.country | text | if . == null then "DE" else . end) as $country
    | {
        street_and_number: ([.street, .houseNumber] | join_given(" ")),
        zip_code: (.zip | zip_code($country)),
        town: (.city | text)
      }
    | given
    | if . == {} then null else . + {country: ($country | country_code)} end
  end;

def event($type; data): {
  id: (.messageId | text),
  source: "/billing",
  type: $type,
  time: (.createdAt | date_time("Europe/Berlin")),
  data: ({customer_id: (.account.number | text)} + data | given)
};

if .messageType == "ACCOUNT_OPENED" then
  event("customer.signed_up"; {
    email: (.account.email | text),
    first_name: (.account.firstName | text),
    last_name: (.account.lastName | text),
    address: (.account.address | address),
    building: (.account.houseType | property_type | if . == null then null else {property_type: .} end)
  })
elif .messageType == "ADDRESS_CHANGED" then
  event("customer.moved"; {
    address: (.newAddress | address),
    effective_at: (.validFrom | date_time("Europe/Berlin"))
  })
elif .messageType == "ACCOUNT_CLOSED" then
  event("customer.churned"; {
    effective_at: (.closedOn | date_time("Europe/Berlin")),
    reason: (.reason | text)
  })
else
  # Invoices and the like are none of our business.
  empty
end
