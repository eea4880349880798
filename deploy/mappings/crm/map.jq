# A CRM's webhook: what changed, each with its old and its new value; times in milliseconds since 1970.
# Tried by `podero-bridge test deploy/mappings/crm`.

def address:
  if . == null then null
  else {
    street_and_number: .street,
    street_add_info: .addition,
    zip_code: (.postcode | zip_code(5)),
    town: .city,
    country: (.country | country_code)
  } | given
  end;

def event($kind; $type; data): {
  id: "\(.delivery)/\($kind)",
  source: "/crm",
  type: $type,
  subject: .contact.id,
  time: (.occurred | date_time("UTC")),
  data: (data | given)
};

.changes as $changes
| if .event == "contact.created" then
    event("created"; "customer.signed_up"; {
      email: $changes.email.new,
      first_name: $changes.firstName.new,
      last_name: $changes.lastName.new,
      language: $changes.language.new,
      address: ($changes.address.new | address)
    })
  elif .event == "contact.deleted" then
    event("deleted"; "customer.churned"; {})
  elif .event == "contact.updated" then
    # A new address where there was one is a move; the first one completes what we know. The rest is corrected. One webhook
    # may say all of it.
    ({
      email: $changes.email.new,
      first_name: $changes.firstName.new,
      last_name: $changes.lastName.new,
      address: (if $changes.address.old == null then $changes.address.new | address else null end)
    } | given) as $corrected
    | (if $corrected == {} then empty else event("updated"; "customer.updated"; $corrected) end),
      (if $changes.address.old == null or $changes.address.new == null then empty
       else event("moved"; "customer.moved"; {address: ($changes.address.new | address)}) end)
  else
    empty
  end
