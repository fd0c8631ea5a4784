"""How constraints over a catalogue follow a list of titles."""
