"""The parts of a recommender: views of the fields, experts and gates that obey a routing, heads, losses."""
