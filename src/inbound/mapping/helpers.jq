# What a mapping of customer events needs over and over again. Every helper passes null on, so that a field which is not
# there stays away.

# A ZIP code as text, with the zeros in front that a number has lost: `1067 | zip_code(5)` is "01067".
def zip_code($digits):
  if . == null then null
  else tostring | ltrimstr(" ") | rtrimstr(" ")
    | if length < $digits and test("^[0-9]+$") then ("0" * ($digits - length)) + . else . end
  end;
def zip_code: zip_code(0);

# Podero's `property_type`, from what English and German systems call it; what is not known stays as it is, and is refused
# with the list of what is allowed.
def property_type:
  if . == null then null
  else . as $given
    | {
        "detached": "Detached", "detached house": "Detached", "house": "Detached",
        "einfamilienhaus": "Detached", "efh": "Detached", "freistehend": "Detached",
        "semi-detached": "Semi-detached", "semidetached": "Semi-detached", "semi detached": "Semi-detached",
        "doppelhaushälfte": "Semi-detached", "dhh": "Semi-detached",
        "bungalow": "Bungalow",
        "terraced": "Terraced", "terraced house": "Terraced", "townhouse": "Terraced", "reihenhaus": "Terraced",
        "rh": "Terraced", "reihenmittelhaus": "Terraced",
        "end-terrace": "End-terrace", "end terrace": "End-terrace", "reihenendhaus": "End-terrace", "reh": "End-terrace",
        "flat": "Flat", "apartment": "Flat", "wohnung": "Flat", "etagenwohnung": "Flat"
      }[tostring | ascii_downcase] // $given
  end;

# An object without the fields that are null.
def given: with_entries(select(.value != null));
