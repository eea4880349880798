# Field-based webhooks of BambooHR: employees whose fields changed, each with all fields that the webhook posts.
# Post these fields: Status, Department, Job Title, Work Email, First Name, Last Name. Sign with `verify = "hmac"`.
# Tried by `podero-bridge test deploy/mappings/bamboohr`.

# The department whose people work with Podero, and the titles of those who administer it.
def department: "Heat Pump Service";
def admins: ["Head of Heat Pump Service", "Service Systems Lead"];

def is_of_team: (.Department | text) == department and (.Status | text) == "Active";

def person: {
  email: (."Work Email" | text),
  first_name: (."First Name" | text),
  last_name: (."Last Name" | text)
};

def role: if (."Job Title" | text) as $title | admins | index([$title]) then "admin" else "staff" end;

# A repeat of the webhook makes the same ids.
def event($employee; $kind; $type; data): {
  id: "\($employee.id | text)/\($employee.timestamp | text)/\($kind)",
  source: "/bamboohr",
  type: $type,
  # The prefix keeps personnel numbers apart from customers' numbers.
  subject: ($employee.id | text | if . != null then "P-" + . else . end),
  time: ($employee.timestamp | date_time("UTC")),
  data: (data | given)
};

.employees[]
| . as $employee
| (.fields // {}) as $fields
| (.changedFields // []) as $changed
| if .action == "Deleted" then
    event($employee; "left"; "team.member_left"; {})
  elif .action == "Created" then
    # Without fields: the update that follows has them.
    empty
  elif any($changed[]; . == "Status" or . == "Department") then
    if $fields | is_of_team then
      event($employee; "joined"; "team.member_joined"; $fields | person + {role: role})
    else
      # One who never was of the team is unknown, and nothing happens.
      event($employee; "left"; "team.member_left"; {})
    end
  elif $fields | is_of_team | not then
    empty
  else
    (if any($changed[]; . == "Work Email" or . == "First Name" or . == "Last Name") then
       event($employee; "updated"; "team.member_updated"; $fields | person)
     else empty end),
    (if any($changed[]; . == "Job Title") then
       event($employee; "role"; "team.member_role_changed"; {role: ($fields | role)})
     else empty end)
  end
