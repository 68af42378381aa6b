"""The paper's tables: what each row costs, how it is run, and what has come of it here."""
