"""The paper's tables: the cost of each row, its run and its results."""
