"""Questions, answers and metrics of Tables 2 to 5 (spec section 7)."""
