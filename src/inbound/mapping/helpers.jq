# What a mapping of customer events needs over and over again. Every helper passes null on, so that a field which is not
# there stays away, and takes a text of nothing but blanks for null: an empty cell of a table says nothing. What cannot be
# read ends the program with an error that says which helper and what kind of value, and never the value.

# Beside these the program has `text`, `zip_code`, `country_code`, `date_time` and `is_given`, which need a table or a calendar.

# One text of several, without those that are not there; null where none is.
def join_given($separator): map(text | select(. != null)) | if length == 0 then null else join($separator) end;

# Podero's `property_type`, from what English and German systems call it; what is not known stays as it is, and is refused
# with the list of what is allowed.
def property_type:
  text | if . == null then null
  else . as $given
    | {
        "detached": "Detached", "detached house": "Detached", "house": "Detached",
        "einfamilienhaus": "Detached", "efh": "Detached", "freistehend": "Detached",
        "semi-detached": "Semi-detached", "semidetached": "Semi-detached", "semi detached": "Semi-detached",
        "doppelhaushälfte": "Semi-detached", "doppelhaushÄlfte": "Semi-detached", "dhh": "Semi-detached",
        "doppelhaushaelfte": "Semi-detached",
        "bungalow": "Bungalow",
        "terraced": "Terraced", "terraced house": "Terraced", "townhouse": "Terraced", "reihenhaus": "Terraced",
        "rh": "Terraced", "reihenmittelhaus": "Terraced",
        "end-terrace": "End-terrace", "end terrace": "End-terrace", "reihenendhaus": "End-terrace", "reh": "End-terrace",
        "flat": "Flat", "apartment": "Flat", "wohnung": "Flat", "etagenwohnung": "Flat"
      }[ascii_downcase] // $given
  end;

# An object without the fields that are null or blank.
def given: with_entries(select(.value | is_given));
