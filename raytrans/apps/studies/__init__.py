"""Studies: arms that are trained alike, measured on the same views, and compared scene by scene."""
