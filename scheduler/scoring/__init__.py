"""The terms of a placement's price, one module a term; each returns money per hour for every row, or says
why it cannot.
"""
