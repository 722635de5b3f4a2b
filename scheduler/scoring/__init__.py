"""One file a term of the price of a placement, each in money per hour over all rows of the fleet."""
