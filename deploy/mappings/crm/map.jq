# A CRM's webhook: what changed, each with its old and its new value; times in milliseconds since 1970.
# Tried by `podero-bridge test deploy/mappings/crm`.

def address:
  if is_given | not then null
  else
    {
      street_and_number: (.street | text),
      street_add_info: (.addition | text),
      # How many digits a ZIP code has follows the country.
      zip_code: (.country as $country | .postcode | zip_code($country)),
      town: (.city | text),
      country: (.country | country_code)
    }
    | given
    | if . == {} then null else . end
  end;

# Whether there was an address, in whatever form it was.
def was_there: is_given and (type != "object" or given != {});

# A webhook without a name is known by its bytes: the bridge makes an id of them where there is none.
def event($kind; $type; data): {
  id: (.delivery | text | if . == null then null else "\(.)/\($kind)" end),
  source: "/crm",
  type: $type,
  subject: (.contact.id | text),
  time: (.occurred | date_time("UTC")),
  data: (data | given)
};

.changes as $changes
| if .event == "contact.created" then
    event("created"; "customer.signed_up"; {
      email: ($changes.email.new | text),
      first_name: ($changes.firstName.new | text),
      last_name: ($changes.lastName.new | text),
      language: ($changes.language.new | text),
      address: ($changes.address.new | address)
    })
  elif .event == "contact.deleted" then
    event("deleted"; "customer.churned"; {})
  elif .event == "contact.updated" then
    # A new address where there was one is a move; the first one completes what we know. The rest is corrected. One webhook
    # may say all of it.
    ({
      email: ($changes.email.new | text),
      first_name: ($changes.firstName.new | text),
      last_name: ($changes.lastName.new | text),
      address: (if $changes.address.old | was_there then null else $changes.address.new | address end)
    } | given) as $corrected
    | (if $corrected == {} then empty else event("updated"; "customer.updated"; $corrected) end),
      (($changes.address.new | address) as $new
       | if $new == null or ($changes.address.old | was_there | not) then empty
         else event("moved"; "customer.moved"; {address: $new}) end)
  else
    empty
  end
