# A personnel system's messages on RabbitMQ, one for each measure of HR: who enters, changes, leaves, and from which day on. Days are
# on the clocks of Berlin; `access_ends` is the first day without access. A measure that is withdrawn comes again under its number, so
# its withdrawal is given an id of its own. The prefix keeps personnel numbers apart from customers' numbers.
# Tried by `podero-bridge test deploy/mappings/hr-feed`.

def midnight: date_time("Europe/Berlin"; "%d.%m.%Y");

def is_off: .measure.withdrawn == true;

def event($type; data): {
  id: ((.measure.number | text) as $number | if $number != null and is_off then $number + "/withdrawn" else $number end),
  source: "/hr-feed",
  type: $type,
  subject: (.person.number | text | if . != null then "P-" + . else . end),
  time: (.measure.decided | date_time("Europe/Berlin")),
  data: (data | given)
};

# Only those with one of the two roles in the system of the heat pumps.
def role: {"WP-SERVICE": "staff", "WP-ADMIN": "admin"}[.person.profile | text // ""];

.measure.kind as $kind
| (.measure.valid_from | midnight) as $from
| if $kind == "ENTRY" and role != null then
    event("team.member_joined"; {
      email: (.person.mail | text),
      first_name: (.person.given_name | text),
      last_name: (.person.family_name | text),
      role: role,
      effective_at: $from,
      expires_at: (.measure.access_ends | midnight),
      cancelled: (if is_off then true else null end)
    })
  elif $kind == "EXIT" then
    event("team.member_left"; {effective_at: $from, cancelled: (if is_off then true else null end)})
  elif $kind == "TRANSFER" and role != null then
    event("team.member_role_changed"; {role: role, effective_at: $from, cancelled: (if is_off then true else null end)})
  elif $kind == "PERSONAL" then
    event("team.member_updated"; {
      email: (.person.mail | text),
      first_name: (.person.given_name | text),
      last_name: (.person.family_name | text)
    })
  elif $kind == "EXTENSION" then
    # Without a day the access has no end any more, which null says.
    (.measure.access_ends | midnight) as $end | event("team.member_updated"; {}) | .data = {expires_at: $end}
  else
    empty
  end
