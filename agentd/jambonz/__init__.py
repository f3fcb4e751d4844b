"""How calls arrive: the wire as jambonz speaks it."""
