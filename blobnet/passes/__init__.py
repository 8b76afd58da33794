"""NetParameter to NetParameter, and to the plans a net follows: one module per step, each with its own test."""
